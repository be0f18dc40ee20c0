-- Adds what an account has lost with the store's data, and returns whether anything was added.
-- KEYS: account
-- ARGV: generation in which the amounts were known, a new generation, oldest bucket, keep_until, then a bucket and its
--   amount in turn, the newest bucket first
--
-- An account of another generation began anew. Of several processes the one that knew most decides: "k" fields hold
-- what was added before. A call can lie in another bucket of a ledger, so that the sum counts.
-- An account of the same generation has gone back to an earlier copy: each bucket holds at least what was known.
local function whole(number) return string.format('%.0f', number) end
redis.call('HSETNX', KEYS[1], 'generation', ARGV[2])
local is_same = redis.call('HGET', KEYS[1], 'generation') == ARGV[1]
local oldest, wanted_kind = tonumber(ARGV[3]), is_same and 'b' or 'k'

local present, missing = {}, 0
local fields = redis.call('HGETALL', KEYS[1])
for i = 1, #fields, 2 do
  local kind, number = string.match(fields[i], '^([bk])(-?%d+)$')
  if kind == wanted_kind and tonumber(number) >= oldest then
    present[number] = tonumber(fields[i + 1])
    missing = missing - present[number]
  end
end
for i = 5, #ARGV, 2 do missing = missing + tonumber(ARGV[i + 1]) end

local is_added = 0
for i = 5, #ARGV, 2 do
  local bucket = ARGV[i]
  local amount = tonumber(ARGV[i + 1]) - (present[bucket] or 0)
  if not is_same then amount = math.min(amount, missing) end
  if amount > 0 then
    redis.call('HINCRBY', KEYS[1], 'b' .. bucket, whole(amount))
    if not is_same then redis.call('HINCRBY', KEYS[1], 'k' .. bucket, whole(amount)) end
    missing = missing - amount
    is_added = 1
  end
end
redis.call('EXPIREAT', KEYS[1], ARGV[4])
return is_added
