"""What counting costs as clients grow, and how many requests pass with several workers.

nox -s bench -- rate_limits

CPU time of this process, medians; memory as the process sees it.
`limits` is the library's own storage, for comparison.
"""

import argparse
import gc
import logging
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from app import create_app
from app.rate_limit_storage import MOST_CLIENTS, CountedServer
from flask import Flask
from limits.storage import MemoryStorage
from tests.live import stack
from tests.production import HOST, KEY, ORIGIN, SETTINGS, VARIABLES
from tests.servers import ask, free_port, listening, served

LIMITS = ((120, 60), (5, 60))  # what a form spends: the default limit and a strict one
ROUNDS, HITS, REQUESTS = 7, 2_000, 300
BATCH = 10_000
ALLOWED, ASKED = 100, 400


def resident_mb() -> float:
    """Return the memory of this process, in megabytes."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


@contextmanager
def database() -> Iterator[None]:
    """Give the default project a database with its schema until the block ends."""
    with tempfile.TemporaryDirectory() as directory:
        os.environ["DATABASE_URL"] = f"sqlite:///{directory}/app.sqlite3"
        words = [sys.executable, "-m", "flask", "db", "upgrade"]
        subprocess.run(words, env={**os.environ, **VARIABLES}, check=True, timeout=60)  # noqa: S603
        yield


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
            yield f"redis://127.0.0.1:{port}"
        finally:
            server.terminate()
            server.wait(10)


def hit(storage: Any, client: str) -> None:  # noqa: ANN401  three kinds of storage
    """Spend what a form spends."""
    for limit, window_s in LIMITS:
        storage.acquire_entry(f"{client}/{limit}", limit, window_s)


def fill(storage: Any, clients: int) -> None:  # noqa: ANN401
    """Let so many clients have hit once; in the server by what a hit leaves there, in batches."""
    if not isinstance(storage, CountedServer):
        for number in range(clients):
            hit(storage, f"client-{number}")
        return
    server: Any = storage.get_connection()
    for first in range(0, clients, BATCH):
        batch = server.pipeline(transaction=False)
        for number in range(first, min(first + BATCH, clients)):
            for limit, window_s in LIMITS:
                key = storage.prefixed_key(f"client-{number}/{limit}")
                batch.lpush(key, f"{time.time() * 1e6:.0f}")
                batch.pexpire(key, window_s * 1_000 * 60)  # long enough to be measured
        batch.execute()


def used_bytes(storage: Any) -> float:  # noqa: ANN401
    """Return the memory of the server, or of this process."""
    if isinstance(storage, CountedServer):
        server: Any = storage.get_connection()
        return float(server.info("memory")["used_memory"])
    return resident_mb() * 1e6


def empty(storage: Any) -> None:  # noqa: ANN401
    """Forget everybody; a server does so in the background."""
    if isinstance(storage, CountedServer):
        server: Any = storage.get_connection()
        server.flushall(asynchronous=True)
    else:
        storage.reset()


def cost_us(storage: Any, clients: int) -> float:  # noqa: ANN401
    """Return the CPU time of a request's hits, in microseconds, with so many clients live."""
    rounds = []
    for number in range(ROUNDS):
        begun = time.process_time()
        for step in range(HITS):
            hit(storage, f"client-{(number * HITS + step * 7919) % clients}")
        rounds.append((time.process_time() - begun) / HITS * 1e6)
    return statistics.median(rounds)


def request_us(app: Flask | None) -> float:
    """Return the CPU time of a whole request in process, from clients that were here before."""
    if app is None:
        return math.nan
    browser = app.test_client()
    rounds = []
    for _ in range(ROUNDS):
        begun = time.process_time()
        for number in range(REQUESTS):
            visitor = {"X-Forwarded-For": f"203.0.113.{number % 250}"}
            answer = browser.get("/api/ping", base_url=ORIGIN, headers=visitor)
        rounds.append((time.process_time() - begun) / REQUESTS * 1e6)
        assert answer.status_code == 200  # noqa: S101  a refusal would cost something else
    return statistics.median(rounds)


def application(uri: str) -> Flask:
    """Return an application that counts there."""
    return create_app(**{**SETTINGS, "SECRET_KEY": KEY, "RATELIMIT_STORAGE_URI": uri})


def grow(name: str, uri: str, sizes: tuple[int, ...]) -> None:
    """Print a line for each number of clients; without a URI, of the library's own memory."""
    first = 0.0
    for clients in sizes:
        gc.collect()
        app = application(uri) if uri else None
        storage = app.extensions["rate_limits"] if app else MemoryStorage()
        request_us(app)
        before = used_bytes(storage)
        fill(storage, clients)
        used = used_bytes(storage) - before
        request = request_us(app)
        cost = cost_us(storage, clients)
        first = first or request
        whole = f"{request:.0f} | {request / first:.2f}" if app else "- | -"
        print(
            f"| {name} | {clients:,} | {cost:.1f} | {whole} "
            f"| {used / clients:,.0f} | {used / 1e6:,.0f} |",
            flush=True,
        )
        empty(storage)
        del app, storage


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
    logging.disable(logging.WARNING)
    with database():
        tables(tuple(n for n in (1_000, 100_000, 1_000_000) if n <= parser.parse_args().most))


def tables(sizes: tuple[int, ...]) -> None:
    """Print what counting costs with so many clients, and what passes."""
    print(f"At most {MOST_CLIENTS:,} clients have a count of their own, per limit.\n")
    titles = (
        "storage",
        "live clients",
        "µs a form's hits",
        "µs a request",
        "ratio",
        "bytes a client",
    )
    print("| " + " | ".join([*titles, "MB |"]))
    print("| --- | --- | --- | --- | --- | --- | --- |")
    grow("`limits` memory", "", sizes[:2])
    grow("memory", "memory://", sizes)
    with valkey() as uri:
        grow("Valkey", uri, sizes)
    print(f"\nOf {ASKED} requests against a limit of {ALLOWED}, pass:\n")
    print("| storage | workers | passed |\n| --- | --- | --- |")
    print(f"| memory | 1 | {passing('memory://', 1)} |")
    for workers in (1, 2, 4):
        with valkey() as uri:
            print(f"| Valkey | {workers} | {passing(uri, workers)} |")


if __name__ == "__main__":
    main()
