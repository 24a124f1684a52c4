"""Limits that several processes and hosts share: exact while the store lives, and never gone.

The real Valkey; a second gunicorn as a second host, 64 clients at once.
"""

import bisect
import signal
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from itertools import count
from typing import Any

import pytest
from flask import Flask

from app.rate_limit_storage import RETRY_S, CountedServer
from tests.conftest import MakeApp
from tests.live.store import Store
from tests.production import HOST, VARIABLES
from tests.servers import ask, free_port, served

if sys.platform == "win32":
    pytest.skip("gunicorn does not exist on Windows", allow_module_level=True)
pytest.importorskip("redis", reason="needs the library: uv run --group live pytest")

ANSWER_S = 15
PARALLEL = 64
LIMIT, WINDOW_S = 20, 3
VISITORS = (f"198.51.100.{number}" for number in count(1))


@contextmanager
def hosts(uri: str, workers: int = 2, **variables: str) -> Iterator[list[int]]:
    """Run two gunicorns that count in the store; yield their ports."""
    shared = {
        **VARIABLES,
        "APP_RATELIMIT_STORAGE_URI": uri,
        "APP_RATELIMIT_DEFAULT": f"{LIMIT} per {WINDOW_S} second",
        "WEB_CONCURRENCY": str(workers),
        **variables,
    }
    ports = [free_port(), free_port()]
    with ExitStack() as running:
        for port in ports:
            command = ("gunicorn", "--bind", f"127.0.0.1:{port}")
            running.enter_context(served(port, *command, variables=shared))
        yield ports


@pytest.fixture
def counted(store: Store) -> Iterator[CountedServer]:
    """Yield what counts in the store; after that, leave no connection open."""
    counted = CountedServer(f"counted+{store.patient_uri}")
    connections: Any = counted.get_connection()  # its declared type cannot be closed
    with closing(connections):
        yield counted


@contextmanager
def counting(make_app: MakeApp, store: Store, **settings: str) -> Iterator[Flask]:
    """Yield an application that counts in the store, and leaves no connection open either."""
    app = make_app(RATELIMIT_STORAGE_URI=store.patient_uri, **settings)
    with closing(app.extensions["rate_limits"].get_connection()):
        yield app


def passes(ports: list[int], visitor: str, seconds: float) -> list[tuple[float, float]]:
    """Ask as one visitor, 64 times at once; return when each that passed was sent and answered."""
    headers: Mapping[str, str] = {
        "Host": HOST,
        "X-Forwarded-Proto": "https",
        "X-Forwarded-For": visitor,
    }
    until = time.monotonic() + seconds
    passed: list[tuple[float, float]] = []
    others: list[int] = []

    def client(number: int) -> None:
        while True:
            sent = time.monotonic()
            status = ask(ports[number % len(ports)], "GET", "/api/ping", headers)[0]
            if status == 200:
                passed.append((sent, time.monotonic()))
            elif status != 429:
                others.append(status)
            if time.monotonic() > until:
                return

    with ThreadPoolExecutor(PARALLEL) as pool:
        list(pool.map(client, range(PARALLEL)))
    assert others == []
    return passed


def most_in_a_window(passed: list[tuple[float, float]]) -> int:
    """Return the most requests that were certainly counted within one window."""
    answered = sorted(received for _, received in passed)
    return max(
        bisect.bisect_left(answered, sent + WINDOW_S)
        - bisect.bisect_left(answered, sent)
        - sum(1 for other, received in passed if other < sent <= received)
        for sent, _ in passed
    )


def test_four_workers_on_two_hosts_let_the_limit_through_and_no_more(store: Store) -> None:
    with hosts(store.patient_uri, workers=4) as ports:
        passed = passes(ports, next(VISITORS), WINDOW_S * 2.2)
    assert most_in_a_window(passed) <= LIMIT
    assert LIMIT * 2 <= len(passed) <= LIMIT * 4


def test_while_the_store_is_gone_each_worker_counts_and_no_request_fails(store: Store) -> None:
    with hosts(store.patient_uri, workers=2, APP_RATELIMIT_DEFAULT=f"{LIMIT} per hour") as ports:
        visitor = next(VISITORS)
        assert len(passes(ports, visitor, 1)) == LIMIT
        store.stop()
        alone = LIMIT * 2 * len(ports)
        gone = len(passes(ports, visitor, 2))
        assert gone <= alone
        store.start()  # empty; a worker that has not noticed yet still has what it left
        back = len(passes(ports, visitor, 2 * RETRY_S))
        assert gone + back <= alone + LIMIT
        assert passes(ports, visitor, 0.5) == []
        assert len(passes(ports, next(VISITORS), 0.5)) == LIMIT


def test_a_frozen_store_holds_nobody_up(store: Store) -> None:
    with hosts(store.uri, APP_RATELIMIT_DEFAULT="1000 per hour") as ports:
        passes(ports, next(VISITORS), 0.5)
        store.send(signal.SIGSTOP)
        begun = time.monotonic()
        assert len(passes(ports, next(VISITORS), 2)) >= PARALLEL
        assert time.monotonic() - begun < ANSWER_S
        store.send(signal.SIGCONT)


def test_a_store_that_is_slow_then_restarted_under_load_fails_no_request(store: Store) -> None:
    with hosts(store.uri, APP_RATELIMIT_DEFAULT="100000 per hour") as ports:
        with ThreadPoolExecutor(1) as pool:
            asking = pool.submit(passes, ports, next(VISITORS), 4)
            for _ in range(5):
                store.send(signal.SIGSTOP)
                time.sleep(0.2)
                store.send(signal.SIGCONT)
                time.sleep(0.1)
            store.stop()
            time.sleep(0.5)
            store.start()
            assert len(asking.result(60)) >= PARALLEL  # and nothing but 200 and 429
        assert "limit storage: ok" in ask(ports[0], "GET", "/readyz")[2]


def test_its_loss_and_its_return_are_one_line_each(
    store: Store, counted: CountedServer, caplog: pytest.LogCaptureFixture
) -> None:
    assert counted.acquire_entry("one", 1, 60)
    for _ in range(2):
        caplog.clear()
        store.stop()
        assert [counted.acquire_entry("two", 1, 60) for _ in range(5)].count(True) <= 1
        time.sleep(RETRY_S)
        counted.acquire_entry("two", 1, 60)  # asks again, in vain, and says nothing again
        store.start()
        deadline = time.monotonic() + ANSWER_S
        while len(caplog.records) < 2 and time.monotonic() < deadline:
            counted.acquire_entry("three", 1000, 60)
            time.sleep(0.05)
        said = [record.getMessage() for record in caplog.records]
        assert ["is gone" in said[0], "is back" in said[1], len(said)] == [True, True, 2]


def test_a_request_asks_the_store_once_whatever_it_spends(make_app: MakeApp, store: Store) -> None:
    with counting(make_app, store) as app:
        client = app.test_client()
        counted = app.extensions["rate_limits"].get_connection()
        client.get("/")  # the script is sent once

        def reads() -> int:
            return int(counted.info("stats")["total_reads_processed"])

        asking = -reads() + reads()  # the question itself
        for method, limits in (("get", 1), ("post", 2)):
            before = reads()
            answer = getattr(client, method)("/contact")
            assert answer.headers["RateLimit"].count(";r=") == limits
            assert reads() - before == asking + 1


def test_threads_of_one_process_share_a_limit(make_app: MakeApp, store: Store) -> None:
    statuses: list[int] = []
    together = threading.Barrier(8)

    with counting(make_app, store, RATELIMIT_DEFAULT="30 per hour") as app:

        def client() -> None:
            together.wait()
            statuses.extend(app.test_client().get("/").status_code for _ in range(10))

        threads = [threading.Thread(target=client) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(ANSWER_S)
    assert (statuses.count(200), statuses.count(429)) == (30, 50)
