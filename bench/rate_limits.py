"""What counting costs as clients grow, and how many requests pass with several workers.

nox -s bench -- rate_limits

CPU time per hit in this process, medians of interleaved rounds; memory as the process sees it.
`limits` is the library's own storage, for comparison.
"""

import argparse
import gc
import os
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from app.rate_limit_storage import MOST_CLIENTS, BoundedMemory, CountedServer
from limits.storage import MemoryStorage
from tests.live import stack
from tests.production import HOST, VARIABLES
from tests.servers import ask, free_port, listening, served

LIMITS = ((120, 60), (5, 60))  # what a form spends: the default limit and a strict one
ROUNDS, HITS = 7, 2_000
ALLOWED, ASKED = 100, 400


def resident_mb() -> float:
    """Return the memory of this process, in megabytes."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


@contextmanager
def valkey() -> Iterator[str]:
    """Run Valkey on loopback until the block ends; yield its URL."""
    port = free_port()
    with tempfile.TemporaryDirectory() as directory:
        options = ["--bind", "127.0.0.1", "--port", str(port), "--save", ""]
        server = subprocess.Popen(  # noqa: S603
            [stack.valkey(), *options], cwd=directory, stdout=subprocess.DEVNULL
        )
        try:
            listening(port)
            yield f"counted+redis://127.0.0.1:{port}"
        finally:
            server.terminate()
            server.wait(10)


def hit(storage: Any, client: str) -> None:  # noqa: ANN401  three kinds of storage
    """Spend what a form spends."""
    for limit, window_s in LIMITS:
        storage.acquire_entry(f"{client}/{limit}", limit, window_s)


def cost_us(storage: Any, clients: int) -> float:  # noqa: ANN401
    """Return the CPU time of a request's hits, in microseconds, with so many clients live."""
    rounds = []
    for number in range(ROUNDS):
        begun = time.process_time()
        for step in range(HITS):
            hit(storage, f"client-{(number * HITS + step * 7919) % clients}")
        rounds.append((time.process_time() - begun) / HITS * 1e6)
    return statistics.median(rounds)


def grow(name: str, make: Callable[[], Any], sizes: tuple[int, ...]) -> None:
    """Print a line for each number of clients."""
    first = 0.0
    for clients in sizes:
        gc.collect()
        before = resident_mb()
        storage = make()
        for number in range(clients):
            hit(storage, f"client-{number}")
        used = resident_mb() - before
        cost = cost_us(storage, clients)
        first = first or cost
        print(
            f"| {name} | {clients:,} | {cost:.1f} | {cost / first:.2f} "
            f"| {used * 1e6 / clients:,.0f} | {used:,.0f} |",
            flush=True,
        )
        storage.reset()
        del storage


def passing(uri: str, workers: int) -> int:
    """Return how many of the requests that 16 clients send as one visitor are let through."""
    port = free_port()
    settings = {
        "APP_RATELIMIT_DEFAULT": f"{ALLOWED} per hour",
        "APP_RATELIMIT_STORAGE_URI": uri,
        "WEB_CONCURRENCY": str(workers),
    }
    visitor = {"Host": HOST, "X-Forwarded-Proto": "https", "X-Forwarded-For": "198.51.100.1"}

    def client(_: int) -> list[int]:
        return [ask(port, "GET", "/api/ping", visitor)[0] for _ in range(ASKED // 16)]

    command = ("gunicorn", "--bind", f"127.0.0.1:{port}", "--access-logfile", "/dev/null")
    with (
        served(port, *command, variables={**VARIABLES, **settings}),
        ThreadPoolExecutor(16) as pool,
    ):
        return [status for statuses in pool.map(client, range(16)) for status in statuses].count(
            200
        )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--most", type=int, default=1_000_000)
    sizes = tuple(n for n in (1_000, 100_000, 1_000_000) if n <= parser.parse_args().most)
    print(f"At most {MOST_CLIENTS:,} clients have a count of their own, per limit.\n")
    print("| storage | live clients | CPU µs a form | ratio | bytes a client here | MB here |")
    print("| --- | --- | --- | --- | --- | --- |")
    grow("memory", BoundedMemory, sizes)
    with valkey() as uri:
        grow("Valkey", lambda: CountedServer(uri), sizes)
    grow("`limits` memory", MemoryStorage, sizes[:2])
    print(f"\nOf {ASKED} requests against a limit of {ALLOWED}, pass:\n")
    print("| storage | workers | passed |\n| --- | --- | --- |")
    print(f"| memory | 1 | {passing('memory://', 1)} |")
    for workers in (1, 2, 4):
        with valkey() as uri:
            print(f"| Valkey | {workers} | {passing(uri.removeprefix('counted+'), workers)} |")


if __name__ == "__main__":
    main()
