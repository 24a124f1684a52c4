"""Count for the rate limits where a stranger cannot turn the counting itself against us.

Two storages for the `limits` library, under schemes of our own: one in the memory of this process,
whose cost does not grow with the number of clients and whose size is bounded, and one in Redis or
Valkey, which asks once per request and counts in memory while the server is gone.
https://limits.readthedocs.io/en/stable/custom-storage.html
"""

import importlib
import logging
import math
import threading
import time
from array import array
from collections import OrderedDict
from collections.abc import Sequence
from typing import NamedTuple

from limits.storage import MemoryStorage, RedisStorage

LOG = logging.getLogger(__name__)

# Clients with a count of their own, per limit; the rest share the counts of the crowd.
MOST_CLIENTS = 100_000
CROWD = 1_024
# Moments remembered per client: of a larger limit, those in one slot of time are one moment.
MOST_MOMENTS = 64

SCHEMES = {"memory": "bounded"} | {
    scheme: f"counted+{scheme}" for scheme in ("redis", "rediss", "valkey", "valkeys")
}
TIMEOUT_S = 0.5  # a server that hangs must not hang the visitor
RETRY_S = 1.0  # how long a server that is gone is left alone

# Hits are a list of moments in microseconds of the server's clock, the newest first.
# For each key: forget what has left the window, hit if there is room, tell what is left and since
# when. One call for all the limits of a request.
HIT = """
local clock = redis.call('TIME')
local now = clock[1] * 1000000 + clock[2]
local told = {}
for place, key in ipairs(KEYS) do
    local window = tonumber(ARGV[3 * place - 2])
    local limit = tonumber(ARGV[3 * place - 1])
    local hits = tonumber(ARGV[3 * place])
    local oldest = redis.call('LINDEX', key, -1)
    while oldest and tonumber(oldest) <= now - window do
        redis.call('RPOP', key)
        oldest = redis.call('LINDEX', key, -1)
    end
    local count = redis.call('LLEN', key)
    local room = count + hits <= limit
    if room and hits > 0 then
        for _ = 1, hits do
            redis.call('LPUSH', key, string.format('%.0f', now))
        end
        redis.call('PEXPIRE', key, math.ceil(window / 1000))
        count = count + hits
    end
    told[place] = {room and 1 or 0, count, oldest and now - tonumber(oldest) or 0}
end
return told
"""
GIVE_BACK = "return redis.call('LPOP', KEYS[1])"


class Try(NamedTuple):
    """What is to be counted: under which key, against how many per how many seconds."""

    key: str
    limit: int
    window_s: int
    hits: int = 1


class Count(NamedTuple):
    """Whether there was room for a try, how many count now, and since when (epoch, seconds)."""

    room: bool
    used: int
    oldest: float


class _Hits:
    """The moments at which one client hit, the oldest first, and how often at each."""

    __slots__ = ("counts", "moments", "total")

    def __init__(self) -> None:
        self.moments, self.counts = array("d"), array("L")
        self.total = 0

    def forget(self, until: float) -> None:
        gone = 0
        for moment in self.moments:
            if moment > until:
                break
            gone += 1
        if gone:
            self.total -= sum(self.counts[:gone])
            del self.moments[:gone], self.counts[:gone]

    def add(self, moment: float, hits: int) -> None:
        if self.moments and self.moments[-1] >= moment:
            self.counts[-1] += hits
        else:
            self.moments.append(moment)
            self.counts.append(hits)
        self.total += hits

    def take_one_back(self) -> None:
        if self.total:
            self.total -= 1
            self.counts[-1] -= 1
            if not self.counts[-1]:
                del self.moments[-1], self.counts[-1]


class _Table:
    """The clients of one limit, the one that hit longest ago first.

    One window for all, so that they leave in this order, and each hit forgets two of those that
    have left: the cost does not depend on how many are here. When there is no more room, a new
    client shares a count with all of the crowd that have the same hash, and keeps sharing it until
    that count is empty: flooding brings nobody a fresh allowance, and takes none away.
    """

    def __init__(self, limit: int, window_s: int) -> None:
        self.window_s = window_s
        self.slot_s = window_s / MOST_MOMENTS if limit > MOST_MOMENTS else 0.0
        self.clients: OrderedDict[str, _Hits] = OrderedDict()
        self.crowd: dict[int, _Hits] = {}

    def find(self, key: str, now: float) -> _Hits | None:
        """Return a client's hits that are still in the window; None if there are none."""
        hits = self.clients.get(key) or self.crowd.get(hash(key) % CROWD)
        if hits:
            hits.forget(now - self.window_s)
        return hits if hits and hits.total else None

    def hit(self, key: str, limit: int, hits: int, now: float) -> Count:
        """Count hits if there is room for all."""
        self._sweep(now)
        found = self.find(key, now) or self._new(key)
        room = found.total + hits <= limit
        if room and hits:
            # A hit counts until its slot has left the window: never too early.
            found.add(math.ceil(now / self.slot_s) * self.slot_s if self.slot_s else now, hits)
            if key in self.clients:
                self.clients.move_to_end(key)
        return Count(room, found.total, found.moments[0] if found.moments else now)

    def _new(self, key: str) -> _Hits:
        if key in self.clients or len(self.clients) < MOST_CLIENTS:
            return self.clients.setdefault(key, _Hits())
        return self.crowd.setdefault(hash(key) % CROWD, _Hits())

    def _sweep(self, now: float) -> None:
        for _ in range(2):
            key, hits = next(iter(self.clients.items()), ("", None))
            if hits is None or (hits.moments and hits.moments[-1] > now - self.window_s):
                return
            del self.clients[key]


class _Counts:
    """The two questions that `limits` has for a storage, by the one that ours answer."""

    def spend(self, tries: Sequence[Try]) -> list[Count]:
        """Count each try whose limit has room for it; return what is counted, in that order."""
        raise NotImplementedError

    def acquire_entry(self, key: str, limit: int, expiry: int, amount: int = 1) -> bool:
        """Hit `amount` times if the limit per `expiry` seconds has room; return whether it had."""
        return self.spend([Try(key, limit, expiry, amount)])[0].room

    def get_moving_window(self, key: str, limit: int, expiry: int) -> tuple[float, int]:
        """Return when the oldest hit in the window was, in seconds of the epoch, and how many."""
        told = self.spend([Try(key, limit, expiry, 0)])[0]
        return told.oldest, told.used


class BoundedMemory(_Counts, MemoryStorage):
    """The counts of this process."""

    STORAGE_SCHEME = ["bounded"]  # noqa: RUF012  the library's own declaration

    def __init__(self, uri: str | None = None) -> None:
        super().__init__(uri)
        self._tables: dict[tuple[int, int], _Table] = {}
        self._lock = threading.Lock()

    def spend(self, tries: Sequence[Try]) -> list[Count]:
        """Count each try whose limit has room for it."""
        with self._lock:
            now = time.time()
            return [
                self._table(limit, window_s).hit(key, limit, hits, now)
                for key, limit, window_s, hits in tries
            ]

    def give_back(self, key: str, limit: int, expiry: int) -> None:
        """Count one hit less."""
        with self._lock:
            if hits := self._table(limit, expiry).find(key, time.time()):
                hits.take_one_back()

    def clear(self, key: str) -> None:
        """Forget a client."""
        super().clear(key)
        with self._lock:
            for table in self._tables.values():
                table.clients.pop(key, None)

    def reset(self) -> int | None:
        """Forget everybody."""
        with self._lock:
            self._tables.clear()
        return super().reset()

    def _table(self, limit: int, window_s: int) -> _Table:
        table = self._tables.get((limit, window_s))
        if table is None:
            table = self._tables[limit, window_s] = _Table(limit, window_s)
        return table


class CountedServer(_Counts, RedisStorage):
    """The counts that several processes and hosts share, in Redis or Valkey.

    While the server is gone each process counts in its own memory; one call a second tries again.
    """

    STORAGE_SCHEME = [scheme for scheme in SCHEMES.values() if scheme != "bounded"]  # noqa: RUF012

    def __init__(self, uri: str, **options: float | str | bool) -> None:
        uri = uri.removeprefix("counted+")
        client = importlib.import_module("valkey" if uri.startswith("valkey") else "redis")
        # A kept connection may have been closed: once more, at once. What hangs, hangs once.
        once = client.retry.Retry(client.backoff.NoBackoff(), 1, (client.ConnectionError,))
        limits = {"socket_connect_timeout": TIMEOUT_S, "socket_timeout": TIMEOUT_S, "retry": once}
        super().__init__(uri, **{**limits, **options})
        self._hit = self.get_connection().register_script(HIT.encode())
        self._give_back = self.get_connection().register_script(GIVE_BACK.encode())
        self._memory = BoundedMemory()
        self._lock = threading.Lock()
        self._gone_until: float | None = None  # None while the server answers

    def spend(self, tries: Sequence[Try]) -> list[Count]:
        """Count each try whose limit has room for it, all in one question to the server."""
        if not self._is_worth_asking():
            return self._memory.spend(tries)
        try:
            told = self._hit(
                [self.prefixed_key(wanted.key) for wanted in tries],
                [
                    n
                    for _, limit, window_s, hits in tries
                    for n in (window_s * 1_000_000, limit, hits)
                ],
            )
        except self.base_exceptions as error:
            self._has_gone(error)
            return self._memory.spend(tries)
        self._is_back()
        now = time.time()
        return [Count(bool(room), count, now - age_us / 1e6) for room, count, age_us in told]

    def give_back(self, key: str, limit: int, expiry: int) -> None:
        """Count one hit less, where the last one was counted."""
        if self._is_worth_asking():
            try:
                self._give_back([self.prefixed_key(key)])
                return
            except self.base_exceptions as error:
                self._has_gone(error)
        self._memory.give_back(key, limit, expiry)

    def reset(self) -> int | None:
        """Forget everybody."""
        self._memory.reset()
        return super().reset()

    def _is_worth_asking(self) -> bool:
        with self._lock:
            if self._gone_until is None:
                return True
            if time.monotonic() < self._gone_until:
                return False
            self._gone_until = time.monotonic() + RETRY_S  # for the others: this one tries
            return True

    def _has_gone(self, error: BaseException) -> None:
        with self._lock:
            first = self._gone_until is None
            self._gone_until = time.monotonic() + RETRY_S
        if first:
            kind = type(error).__name__
            LOG.warning("The rate limits' server is gone (%s): this process counts by itself", kind)

    def _is_back(self) -> None:
        with self._lock:
            was_gone, self._gone_until = self._gone_until is not None, None
        if was_gone:
            self._memory.reset()
            LOG.warning("The rate limits' server is back")
