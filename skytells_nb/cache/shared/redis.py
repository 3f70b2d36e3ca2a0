"""Responses in Redis, or a server that speaks its protocol such as Valkey.

A response is a string; a sorted set orders the keys by a number that is also the time in microseconds, and a hash has
the totals. What must not come apart is one script, which Redis runs alone. A lease is a string with its owner and the
generation of it, and an owner one with its expiry: ending an owner frees all its leases at once.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from functools import partial
from operator import methodcaller
from typing import Any, TypeVar

from skytells_nb.cache.checksum import HEADER_BYTES
from skytells_nb.cache.shared.address import Address
from skytells_nb.cache.shared.backend import (
    CONNECT_TIMEOUT_S,
    MANAGE_TIMEOUT_S,
    MAX_LEASE_S,
    REPLY_TIMEOUT_S,
    ROWS_PER_BATCH,
    Acquired,
    Holder,
    StoreRefused,
    StoreUnavailable,
)
from skytells_nb.cache.shared.redis_coordinator import RedisCoordinator
from skytells_nb.cache.store import LeaseState
from skytells_nb.errors import MissingExtraError

PREFIX = b"skytells:1:"
"""Of every key that this library writes; the number is that of the format."""
_ANSWER = PREFIX + b"a:"
_INDEX = PREFIX + b"index"
_TOTALS = PREFIX + b"totals"
_STATES: tuple[LeaseState, ...] = ("acquired", "leased", "stored")

T = TypeVar("T")

# Numbers of 16 digits: Lua's own conversion to text would round them.
_COMMON = f"""
local prefix, header = ARGV[1], {HEADER_BYTES}
local index, totals = prefix .. 'index', prefix .. 'totals'
local function whole(number) return string.format('%.0f', number) end
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000000 + tonumber(time[2])
local function remove(key)
  local size = redis.call('STRLEN', prefix .. 'a:' .. key)
  local there = redis.call('DEL', prefix .. 'a:' .. key)
  redis.call('ZREM', index, key)
  if there == 1 then
    redis.call('HINCRBY', totals, 'entries', -1)
    redis.call('HINCRBY', totals, 'bytes', whole(header - size))
  end
  return there
end
local function read_owner(owner)
  local text = redis.call('GET', prefix .. 'o:' .. owner)
  if not text then return nil end
  local expires, generation, process = string.match(text, '^(%d+) (%d+) (.*)$')
  return {{expires = tonumber(expires), generation = generation, process = process}}
end
local function write_owner(owner, expires, generation, process)
  local text = whole(expires) .. ' ' .. generation .. ' ' .. process
  redis.call('SET', prefix .. 'o:' .. owner, text, 'PX', {int(MAX_LEASE_S * 1000)})
end
"""

_INSERT = """
local last = tonumber(redis.call('ZRANGE', index, -1, -1, 'WITHSCORES')[2] or 0)
for i = 2, #ARGV, 3 do
  if ARGV[i + 2] == '1' then remove(ARGV[i]) end
end
local number, added, bytes = math.max(now, last), 0, 0
for i = 2, #ARGV, 3 do
  local key, value = ARGV[i], ARGV[i + 1]
  if redis.call('SETNX', prefix .. 'a:' .. key, value) == 1 then
    number, added, bytes = number + 1, added + 1, bytes + #value - header
    redis.call('ZADD', index, whole(number), key)
  end
  redis.call('DEL', prefix .. 'l:' .. key)
end
redis.call('HINCRBY', totals, 'entries', added)
redis.call('HINCRBY', totals, 'bytes', whole(bytes))
return added
"""

_DELETE = """
local removed = 0
for i = 2, #ARGV do removed = removed + remove(ARGV[i]) end
return removed
"""

_PRUNE = """
local max_bytes, age, limit = tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local rows = redis.call('ZRANGE', index, 0, limit - 1, 'WITHSCORES')
local removed, seen = 0, 0
for i = 1, #rows, 2 do
  local too_old = age and tonumber(rows[i + 1]) < now - age * 1000000
  local too_much = max_bytes and tonumber(redis.call('HGET', totals, 'bytes') or 0) > max_bytes
  if not (too_old or too_much) then return {removed, 0} end
  removed = removed + remove(rows[i])
  seen = seen + 1
end
return {removed, seen}
"""

_ACQUIRE = """
local me, process, seconds, after = ARGV[2], ARGV[3], tonumber(ARGV[4]), tonumber(ARGV[5])
local mine = read_owner(me)
local generation = mine and mine.generation or whole(now)
local owners, states, holders, acquired = {}, {}, {}, {}
for i = 6, #ARGV, 2 do
  local key, state = ARGV[i], '0'
  local stored = ARGV[i + 1] == '0' and redis.call('EXISTS', prefix .. 'a:' .. key) == 1
  if stored and tonumber(redis.call('ZSCORE', index, key) or 1) > after then
    state = '2'
  else
    local lease = redis.call('GET', prefix .. 'l:' .. key)
    if lease and lease ~= me .. generation then
      local name = string.sub(lease, 1, #me)
      if owners[name] == nil then owners[name] = name ~= me and read_owner(name) or false end
      local holder = owners[name]
      if holder and holder.generation == string.sub(lease, #me + 1) then
        if now < holder.expires then
          state = '1'
          if not holder.listed then
            holder.listed = true
            holders[#holders + 1] = {name, holder.process}
          end
        else
          redis.call('DEL', prefix .. 'o:' .. name)
          owners[name] = false
        end
      end
    end
    if state == '0' then acquired[#acquired + 1] = key end
  end
  states[#states + 1] = state
end
if mine or #acquired > 0 then write_owner(me, now + seconds * 1000000, generation, process) end
for _, key in ipairs(acquired) do
  redis.call('SET', prefix .. 'l:' .. key, me .. generation, 'PX', MAX_LEASE_MS)
end
return {table.concat(states), holders}
""".replace("MAX_LEASE_MS", str(int(MAX_LEASE_S * 1000)))

_RENEW = """
local mine = read_owner(ARGV[2])
if not mine then return 0 end
write_owner(ARGV[2], now + tonumber(ARGV[3]) * 1000000, mine.generation, mine.process)
return 1
"""

_RELEASE = """
local me = ARGV[2]
local mine = read_owner(me)
if mine then
  for i = 4, #ARGV do
    local name = prefix .. 'l:' .. ARGV[i]
    if redis.call('GET', name) == me .. mine.generation then redis.call('DEL', name) end
  end
end
if ARGV[3] == '1' then redis.call('DEL', prefix .. 'o:' .. me) end
return 0
"""


class RedisBackend:
    """Records and leases on the server at this address; see ``Backend``."""

    def __init__(self, address: Address) -> None:
        try:
            import redis
            from redis.backoff import NoBackoff
            from redis.retry import Retry
        except ImportError:
            raise MissingExtraError("A cache on Redis", address.extra) from None
        self._errors = redis.exceptions
        self._address = address
        self._make = partial(
            redis.Redis.from_url,
            socket_connect_timeout=CONNECT_TIMEOUT_S,
            socket_keepalive=True,
            # Retried here, once, and then not again for a while.
            retry=Retry(NoBackoff(), 0),
        )
        self._client: Any = None
        self._manager: Any = None
        self._scripts: dict[str, str] = {}
        self.coordinator = RedisCoordinator(self._evaluate)

    def load(self, keys: Sequence[bytes]) -> dict[bytes, bytes]:
        found: dict[bytes, bytes] = {}
        for batch in _batches(keys):
            values = self._run(methodcaller("mget", [_ANSWER + key for key in batch]))
            found.update((key, value) for key, value in zip(batch, values, strict=True) if value is not None)
        return found

    def contains(self, keys: Sequence[bytes]) -> set[bytes]:
        def work(client: Any, batch: Sequence[bytes]) -> list[int]:
            with client.pipeline(transaction=False) as pipeline:
                for key in batch:
                    pipeline.exists(_ANSWER + key)
                return list(pipeline.execute())

        found: set[bytes] = set()
        for batch in _batches(keys):
            there = self._run(partial(work, batch=batch))
            found.update(key for key, count in zip(batch, there, strict=True) if count)
        return found

    def keys(self) -> bytes:
        def work(client: Any) -> set[bytes]:
            # A key can come twice while others write.
            return set(client.scan_iter(match=_ANSWER + b"*", count=ROWS_PER_BATCH))

        return b"".join(key[len(_ANSWER) :] for key in self._run(work, manages=True))

    def insert(self, rows: Sequence[tuple[bytes, bytes]], replacing: Collection[bytes]) -> int:
        def arguments(batch: Sequence[tuple[bytes, bytes]]) -> list[bytes]:
            return [part for key, value in batch for part in (key, value, b"1" if key in replacing else b"0")]

        if len(rows) <= ROWS_PER_BATCH:
            return int(self._evaluate(_INSERT, arguments(rows)))

        def work(client: Any) -> list[Any]:
            # One transaction of several scripts: a script of everything would need twice the memory.
            digest = client.script_load(_COMMON + _INSERT)
            with client.pipeline(transaction=True) as pipeline:
                for batch in _batches(rows):
                    pipeline.evalsha(digest, 0, PREFIX, *arguments(batch))
                return list(pipeline.execute())

        return sum(self._run(work))

    def delete(self, keys: Sequence[bytes]) -> int:
        return sum(int(self._evaluate(_DELETE, batch, manages=True)) for batch in _batches(keys))

    def totals(self) -> tuple[int, int]:
        entries, size = self._run(lambda client: client.hmget(_TOTALS, "entries", "bytes"), manages=True)
        return int(entries or 0), int(size or 0)

    def prune(self, max_bytes: int | None, older_than_s: float | None) -> int:
        self._run(_reindex, manages=True)
        limits = ["" if limit is None else repr(limit) for limit in (max_bytes, older_than_s)]
        removed, seen = 0, ROWS_PER_BATCH
        while seen == ROWS_PER_BATCH:
            more, seen = self._evaluate(_PRUNE, [*limits, ROWS_PER_BATCH], manages=True)
            removed += more
        return removed

    def snapshot(self) -> int:
        newest = self._run(lambda client: client.zrange(_INDEX, -1, -1, withscores=True))
        return int(newest[0][1]) if newest else 0

    def acquire(
        self,
        keys: Sequence[bytes],
        owner: bytes,
        process: bytes,
        seconds: float,
        after: int,
        ignoring: Collection[bytes],
    ) -> Acquired:
        pairs = [part for key in keys for part in (key, b"1" if key in ignoring else b"0")]
        states, holders = self._evaluate(_ACQUIRE, [owner, process, repr(seconds), after, *pairs])
        return Acquired([_STATES[state - ord("0")] for state in states], [Holder(*holder) for holder in holders])

    def renew(self, owner: bytes, seconds: float) -> bool:
        return bool(self._evaluate(_RENEW, [owner, repr(seconds)]))

    def release(self, owner: bytes, keys: Sequence[bytes], *, ends: bool) -> None:
        self._evaluate(_RELEASE, [owner, b"1" if ends else b"0", *keys])

    def close(self) -> None:
        for client in (self._client, self._manager):
            if client is not None:
                client.close()
        self._client = self._manager = None

    def _evaluate(self, script: str, arguments: Sequence[Any], *, manages: bool = False) -> Any:
        def work(client: Any) -> Any:
            digest = self._scripts.get(script)
            if digest is not None:
                try:
                    return client.evalsha(digest, 0, PREFIX, *arguments)
                except self._errors.NoScriptError:
                    pass  # the server was restarted
            self._scripts[script] = client.script_load(_COMMON + script)
            return client.evalsha(self._scripts[script], 0, PREFIX, *arguments)

        return self._run(work, manages=manages)

    def _run(self, work: Callable[[Any], T], *, manages: bool = False) -> T:
        """Return what ``work`` returns; it is done again if an idle connection turns out to be closed."""
        errors = self._errors
        try:
            client = self._connected(manages)
            try:
                return work(client)
            except errors.TimeoutError:
                raise
            except (errors.ConnectionError, OSError) as problem:
                if isinstance(problem, errors.AuthenticationError | errors.BusyLoadingError):
                    raise
                # Each idle connection may be closed, as after a restart of the server.
                client.connection_pool.disconnect(inuse_connections=False)
                return work(client)
        except (errors.AuthenticationError, errors.NoPermissionError, errors.AuthorizationError) as problem:
            raise StoreRefused(f"{self._text(problem)}; check the user name and the password") from None
        except errors.OutOfMemoryError:
            raise StoreUnavailable("its memory is full; prune it, or raise maxmemory", responds=True) from None
        except errors.ResponseError as problem:
            text = self._text(problem)
            if "DB index" in text:
                raise StoreRefused(f"{text}; name a database that it has") from None
            if "NOAUTH" in text or "WRONGPASS" in text:
                raise StoreRefused(f"{text}; check the user name and the password") from None
            raise StoreUnavailable(text, responds=True) from None
        except (errors.RedisError, OSError) as problem:
            raise StoreUnavailable(self._text(problem)) from None

    def _connected(self, manages: bool) -> Any:
        client = self._manager if manages else self._client
        if client is None:
            timeout = MANAGE_TIMEOUT_S if manages else REPLY_TIMEOUT_S
            try:
                client = self._make(self._address.with_password(), socket_timeout=timeout)
            except (ValueError, TypeError) as problem:
                raise StoreRefused(f"the address cannot be used: {self._text(problem)}") from None
            if manages:
                self._manager = client
            else:
                self._client = client
        return client

    def _text(self, problem: BaseException) -> str:
        return self._address.masked(str(problem).strip().rstrip(".")) or type(problem).__name__


def _reindex(client: Any) -> None:
    """Mend the index and the totals where the server has evicted keys to save memory."""
    try:
        evicted = client.info("stats").get("evicted_keys", 0)
    except Exception:  # the user may not ask for statistics
        return
    if not evicted:
        return
    entries = size = 0
    for batch in _batches([name.removeprefix(_ANSWER) for name in client.scan_iter(match=_ANSWER + b"*", count=1000)]):
        with client.pipeline(transaction=False) as pipeline:
            for key in batch:
                pipeline.strlen(_ANSWER + key)
                # Those that the index lost are the oldest; the others keep their number.
                pipeline.zadd(_INDEX, {key: 1}, nx=True)
            lengths = pipeline.execute()[::2]
        entries += sum(length > 0 for length in lengths)
        size += sum(length - HEADER_BYTES for length in lengths if length)
    for batch in _batches([key for key, _ in client.zscan_iter(_INDEX, count=1000)]):
        with client.pipeline(transaction=False) as pipeline:
            for key in batch:
                pipeline.exists(_ANSWER + key)
            gone = [key for key, there in zip(batch, pipeline.execute(), strict=True) if not there]
        if gone:
            client.zrem(_INDEX, *gone)
    client.hset(_TOTALS, mapping={"entries": entries, "bytes": size})


def _batches(items: Sequence[T]) -> Iterator[Sequence[T]]:
    for start in range(0, len(items), ROWS_PER_BATCH):
        yield items[start : start + ROWS_PER_BATCH]
