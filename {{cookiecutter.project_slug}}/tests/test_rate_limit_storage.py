"""Nobody gets a fresh allowance by flooding the counts, nor can make counting dear."""

import socket
import ssl
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import pytest

from app import rate_limit_storage
from app.rate_limit_storage import BoundedMemory, CountedServer
from tests.servers import free_port

MINUTE = 60


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Return a clock that stands still until a test turns it."""
    now = [1_800_000_000.0]
    monkeypatch.setattr(time, "time", lambda: now[0])
    return now


@pytest.fixture
def memory() -> BoundedMemory:
    """Return a storage that nobody has hit."""
    return BoundedMemory()


def hits(memory: BoundedMemory, key: str, limit: int, times: int) -> int:
    """Return how many of so many hits were let through."""
    return sum(memory.acquire_entry(key, limit, MINUTE) for _ in range(times))


@pytest.mark.parametrize("limit", [1, 5, 64, 65, 120])
def test_never_more_than_the_limit_in_any_window(
    memory: BoundedMemory, clock: list[float], limit: int
) -> None:
    let_through: list[float] = []
    for step in range(limit * 8):
        clock[0] += 0.37 * MINUTE / limit * (1 + step % 3)
        if memory.acquire_entry("one", limit, MINUTE):
            let_through.append(clock[0])
    for first, moment in enumerate(let_through):
        in_window = [m for m in let_through[first:] if m < moment + MINUTE]
        assert len(in_window) <= limit
    assert len(let_through) > limit * 4  # and not much fewer either


def test_a_strict_limit_is_free_again_to_the_moment(
    memory: BoundedMemory, clock: list[float]
) -> None:
    assert hits(memory, "one", 5, 9) == 5
    oldest, count = memory.get_moving_window("one", 5, MINUTE)
    assert (oldest, count) == (clock[0], 5)
    clock[0] += MINUTE - 0.001
    assert hits(memory, "one", 5, 9) == 0
    clock[0] += 0.001
    assert hits(memory, "one", 5, 9) == 5


def test_a_refused_hit_costs_nothing(memory: BoundedMemory, clock: list[float]) -> None:
    hits(memory, "one", 2, 50)
    assert memory.get_moving_window("one", 2, MINUTE)[1] == 2


def test_hits_together_are_counted_all_or_none(memory: BoundedMemory, clock: list[float]) -> None:
    assert memory.acquire_entry("one", 5, MINUTE, 4)
    assert not memory.acquire_entry("one", 5, MINUTE, 2)
    assert memory.acquire_entry("one", 5, MINUTE, 1)


def test_threads_cannot_race_a_limit(memory: BoundedMemory) -> None:
    let_through: list[int] = []
    together = threading.Barrier(8)

    def hit() -> None:
        together.wait()
        let_through.append(hits(memory, "one", 50, 200))

    threads = [threading.Thread(target=hit) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(let_through) == 50


@pytest.fixture
def small(memory: BoundedMemory, monkeypatch: pytest.MonkeyPatch) -> BoundedMemory:
    """Return a storage with room for a hundred clients."""
    monkeypatch.setattr(rate_limit_storage, "MOST_CLIENTS", 100)
    monkeypatch.setattr(rate_limit_storage, "CROWD", 8)
    return memory


def test_flooding_brings_nobody_a_fresh_allowance(small: BoundedMemory, clock: list[float]) -> None:
    assert hits(small, "early", 5, 9) == 5
    for number in range(10_000):
        small.acquire_entry(f"flood-{number}", 5, MINUTE)
    assert hits(small, "early", 5, 9) == 0
    assert hits(small, "late", 5, 9) == 0  # its part of the crowd is spent


def test_what_was_spent_in_the_crowd_stays_spent_when_there_is_room(
    small: BoundedMemory, clock: list[float]
) -> None:
    for number in range(100):
        small.acquire_entry(f"flood-{number}", 5, MINUTE)
    clock[0] += MINUTE - 1
    assert hits(small, "late", 5, 9) == 5
    clock[0] += 2  # the flood has left, the late one has not
    assert hits(small, "late", 5, 9) == 0
    clock[0] += MINUTE
    assert hits(small, "late", 5, 9) == 5


def test_room_is_bounded_and_comes_back(small: BoundedMemory, clock: list[float]) -> None:
    for number in range(10_000):
        small.acquire_entry(f"flood-{number}", 5, MINUTE)
    (table,) = small._tables.values()
    assert len(table.clients) == 100
    assert len(table.crowd) <= 8
    clock[0] += MINUTE
    for number in range(60):
        assert small.acquire_entry(f"new-{number}", 5, MINUTE)
    assert not [key for key in table.clients if key.startswith("flood")]


def test_one_client_takes_no_more_than_so_much_room(
    small: BoundedMemory, clock: list[float]
) -> None:
    for _ in range(10_000):
        clock[0] += 0.006
        small.acquire_entry("one", 1_000_000, MINUTE)
    (table,) = small._tables.values()
    moments = table.clients["one"].moments
    assert len(moments) <= rate_limit_storage.MOST_MOMENTS + 2
    assert sys.getsizeof(moments) < 2_000


def test_the_work_of_a_hit_does_not_grow_with_the_clients(
    memory: BoundedMemory, clock: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    looked_at = [0]
    forget = rate_limit_storage._Hits.forget

    def counted(self: rate_limit_storage._Hits, until: float) -> None:
        looked_at[0] += 1
        forget(self, until)

    monkeypatch.setattr(rate_limit_storage._Hits, "forget", counted)
    work = []
    for clients in (100, 5_000):
        for number in range(clients):
            memory.acquire_entry(f"client-{clients}-{number}", 5, MINUTE)
        before = looked_at[0]
        hits(memory, f"one-{clients}", 5, 100)
        work.append(looked_at[0] - before)
    assert work[0] == work[1]


def test_it_can_be_forgotten(memory: BoundedMemory) -> None:
    hits(memory, "one", 1, 1)
    memory.clear("one")
    assert hits(memory, "one", 1, 1) == 1
    memory.reset()
    assert hits(memory, "one", 1, 1) == 1


def test_a_server_that_cannot_prove_who_it_is_is_not_asked(tmp_path: Path) -> None:
    pytest.importorskip("redis", reason="needs the library: uv run --group live pytest")
    trustme = pytest.importorskip("trustme", reason="needs the group: uv run --group live pytest")
    issuer, other = trustme.CA(), trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    issuer.issue_cert("127.0.0.1").configure_cert(context)
    trusted = {"issuer": issuer, "other": other}
    for name, authority in trusted.items():
        authority.cert_pem.write_to_path(tmp_path / name)
    received: list[bytes] = []

    def serve(listener: socket.socket) -> None:
        with suppress(OSError):
            while True:
                plain, _ = listener.accept()
                with suppress(OSError), context.wrap_socket(plain, server_side=True) as connection:
                    received.append(connection.recv(1_024))

    with socket.create_server(("127.0.0.1", 0)) as listener:
        uri = f"counted+rediss://127.0.0.1:{listener.getsockname()[1]}"
        thread = threading.Thread(target=serve, args=(listener,), daemon=True)
        thread.start()
        for path in ("", f"?ssl_ca_certs={tmp_path / 'other'}"):
            storage = CountedServer(uri + path)
            assert not storage.check()
            assert [storage.acquire_entry("one", 1, MINUTE) for _ in range(2)] == [True, False]
            assert received == []
        CountedServer(f"{uri}?ssl_ca_certs={tmp_path / 'issuer'}").check()
        assert received
        listener.shutdown(socket.SHUT_RDWR)
    thread.join(5)


def test_a_server_that_is_gone_is_counted_for_and_told_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    pytest.importorskip("redis", reason="needs the library: uv run --group live pytest")
    storage = CountedServer(f"counted+redis://127.0.0.1:{free_port()}")
    begun = time.monotonic()
    assert [storage.acquire_entry("one", 2, MINUTE) for _ in range(4)] == [True, True, False, False]
    assert storage.get_moving_window("one", 2, MINUTE)[1] == 2
    assert time.monotonic() - begun < 10
    assert len(caplog.records) == 1
    assert "is gone" in caplog.text
    assert not storage.check()
