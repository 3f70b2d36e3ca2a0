"""What processes tell each other through Redis: records in a hash for each topic, spending in one for each limit."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from skytells_nb.cache.shared.backend import PEERS_S, Holder
from skytells_nb.cache.spending import KEPT_S, QUIET_S, Claim

# Scripts that follow the common part of ``redis.py``.
_EXCHANGE = f"""
local name, me, seconds = prefix .. 'p:' .. ARGV[2], ARGV[3], tonumber(ARGV[6])
redis.call('HSET', name, me, whole(now) .. ' ' .. #ARGV[4] .. ' ' .. ARGV[4] .. ARGV[5])
redis.call('PEXPIRE', name, {int(PEERS_S * 1000)})
local fields, found = redis.call('HGETALL', name), {{whole(now)}}
for i = 1, #fields, 2 do
  local at, size, rest = string.match(fields[i + 1], '^(%d+) (%d+) (.*)$')
  if now - tonumber(at) > {int(PEERS_S * 1_000_000)} then
    redis.call('HDEL', name, fields[i])
  elseif fields[i] ~= me and now - tonumber(at) <= seconds * 1000000 then
    found[#found + 1] = fields[i]
    found[#found + 1] = string.sub(rest, 1, tonumber(size))
    found[#found + 1] = string.sub(rest, tonumber(size) + 1)
  end
end
return found
"""

_LEAVE = "return redis.call('HDEL', prefix .. 'p:' .. ARGV[2], ARGV[3])"

_SPENDING = f"""
local name = prefix .. 'b:' .. ARGV[2]
local function exact(number) return string.format('%.17g', number) end
local function read(owner)
  local text = redis.call('HGET', name, 'o:' .. owner)
  if not text then return nil end
  local spent, reserved, at, process = string.match(text, '^(%S+) (%S+) (%d+) (.*)$')
  return {{spent = tonumber(spent), reserved = tonumber(reserved), at = tonumber(at), process = process}}
end
local function write(owner, spent, reserved, process)
  local text = exact(spent) .. ' ' .. exact(reserved) .. ' ' .. whole(now) .. ' ' .. process
  redis.call('HSET', name, 'o:' .. owner, text)
  redis.call('PEXPIRE', name, {int(KEPT_S * 1000)})
end
"""

_OPEN_LIMIT = (
    _SPENDING
    + f"""
redis.call('HSETNX', name, 'limit', ARGV[3])
redis.call('PEXPIRE', name, {int(KEPT_S * 1000)})
return 0
"""
)

_CLAIM = (
    _SPENDING
    + f"""
local limit = tonumber(redis.call('HGET', name, 'limit'))
if not limit then return {{}} end
local me, process = ARGV[3], ARGV[4]
local spent, reserved = tonumber(ARGV[5]), tonumber(ARGV[6])
local dollars = ARGV[7] == 'inf' and math.huge or tonumber(ARGV[7])
local likely = tonumber(ARGV[8])
local others_spent, others_reserved, holders = tonumber(redis.call('HGET', name, 'ended') or '0'), 0, {{}}
for _, field in ipairs(redis.call('HKEYS', name)) do
  local owner = string.sub(field, 3)
  if string.sub(field, 1, 2) == 'o:' and owner ~= me then
    local other = read(owner)
    others_spent = others_spent + other.spent
    if now - other.at > {int(QUIET_S * 1_000_000)} then
      others_spent = others_spent + other.reserved
    elseif other.reserved > 0 then
      others_reserved = others_reserved + other.reserved
      holders[#holders + 1] = {{owner, other.process}}
    end
  end
end
local granted
if likely then
  granted = others_reserved + reserved <= 0 and others_spent + spent + likely <= limit
else
  granted = others_spent + others_reserved + spent + reserved + dollars <= limit
end
if granted then reserved = reserved + dollars end
write(me, spent, reserved, process)
return {{granted and 1 or 0, exact(others_spent), exact(others_reserved), holders}}
"""
)

_FORFEIT = (
    _SPENDING
    + """
for i = 3, #ARGV do
  local other = read(ARGV[i])
  if other then write(ARGV[i], other.spent + other.reserved, 0, other.process) end
end
return 0
"""
)

_END_SPENDING = (
    _SPENDING
    + """
if redis.call('HDEL', name, 'o:' .. ARGV[3]) == 1 then
  redis.call('HSET', name, 'ended', exact(tonumber(redis.call('HGET', name, 'ended') or '0') + tonumber(ARGV[4])))
end
return 0
"""
)


class RedisCoordinator:
    """Records and limits on a server; see ``Coordinator``. ``evaluate`` runs a script with these arguments."""

    def __init__(self, evaluate: Callable[[str, Sequence[Any]], Any]) -> None:
        self._evaluate = evaluate

    def exchange(
        self, topic: bytes, owner: bytes, process: bytes, record: bytes, seconds: float
    ) -> tuple[float, Mapping[bytes, tuple[bytes, bytes]]]:
        now, *found = self._evaluate(_EXCHANGE, [topic, owner, process, record, repr(seconds)])
        names, processes, records = found[::3], found[1::3], found[2::3]
        return int(now) / 1e6, dict(zip(names, zip(processes, records, strict=True), strict=True))

    def leave(self, topic: bytes, owner: bytes) -> None:
        self._evaluate(_LEAVE, [topic, owner])

    def open_limit(self, topic: bytes, limit: float) -> None:
        self._evaluate(_OPEN_LIMIT, [topic, repr(limit)])

    def claim(
        self,
        topic: bytes,
        owner: bytes,
        process: bytes,
        spent: float,
        reserved: float,
        dollars: float,
        likely: float | None,
    ) -> tuple[Claim, list[Holder]] | None:
        amounts = [*map(repr, (spent, reserved, dollars)), "" if likely is None else repr(likely)]
        found = self._evaluate(_CLAIM, [topic, owner, process, *amounts])
        if not found:
            return None
        granted, others_spent, others_reserved, holders = found
        claim = Claim(granted == 1, float(others_spent), float(others_reserved))
        return claim, [Holder(*holder) for holder in holders]

    def forfeit(self, topic: bytes, owners: Sequence[bytes]) -> None:
        self._evaluate(_FORFEIT, [topic, *owners])

    def end_spending(self, topic: bytes, owner: bytes, spent: float) -> None:
        self._evaluate(_END_SPENDING, [topic, owner, repr(spent)])
