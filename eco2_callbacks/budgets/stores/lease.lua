-- Reports what a process spent on one account and changes its slice, at one moment.
-- KEYS: account, leases, raises, index of accounts
-- ARGV: owner, limit, bucket, oldest, spent, sequence, want, need, keep_until, lease_ms, account key, scope, keep,
-- a new generation
-- Amounts are nanodollars: a Lua number holds them exactly up to 9 million dollars.
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local owner, limit, bucket, oldest = ARGV[1], tonumber(ARGV[2]), ARGV[3], tonumber(ARGV[4])
local spent, sequence, want, need = tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7]), tonumber(ARGV[8])
local function whole(number) return string.format('%.0f', number) end

local lease, last, others = 0, 0, 0
local leases = redis.call('HGETALL', KEYS[2])
for i = 1, #leases, 2 do
  local amount, expires, number = string.match(leases[i + 1], '^(-?%d+)|(%d+)|(%d+)$')
  amount, expires, number = tonumber(amount), tonumber(expires), tonumber(number)
  if expires <= now then
    amount = 0
    if now - expires > 86400000 and leases[i] ~= owner then redis.call('HDEL', KEYS[2], leases[i]) end
  end
  if leases[i] == owner then lease, last = amount, number else others = others + amount end
end
if sequence > last then
  last = sequence
  lease = math.max(0, lease - spent)
  if spent > 0 then redis.call('HINCRBY', KEYS[1], 'b' .. bucket, whole(spent)) end
end

-- An account that is lost with the store's data gets another generation.
redis.call('HSETNX', KEYS[1], 'generation', ARGV[14])
local settled, pressed_until, generation, buckets = 0, 0, '', {}
local fields = redis.call('HGETALL', KEYS[1])
for i = 1, #fields, 2 do
  local kind, number = string.match(fields[i], '^([bk])(-?%d+)$')
  if number then
    if tonumber(number) < oldest then redis.call('HDEL', KEYS[1], fields[i])
    elseif kind == 'b' then
      settled = settled + tonumber(fields[i + 1])
      buckets[#buckets + 1] = number
      buckets[#buckets + 1] = fields[i + 1]
    end
  elseif fields[i] == 'generation' then generation = fields[i + 1]
  elseif fields[i] == 'pressed_until' then pressed_until = tonumber(fields[i + 1]) end
end

local raises = redis.call('HGETALL', KEYS[3])
for i = 1, #raises, 2 do
  local amount, expires = string.match(raises[i + 1], '^(%d+)|(%d+)$')
  if tonumber(expires) * 1000 <= now then redis.call('HDEL', KEYS[3], raises[i])
  else limit = limit + tonumber(amount) end
end

-- The same rule as leased_amount() in protocol.py.
local room = limit - settled - others - lease
local held, keep = lease, tonumber(ARGV[13])
if keep < need and need > lease + math.max(room, 0) then held = math.min(lease, math.max(keep, 0))
elseif want <= lease then held = math.max(want, 0)
elseif room > 0 then
  held = lease + math.min(want - lease, room, math.max(need - lease, math.floor(room / 4)))
end
if held < need and settled + need <= limit then
  pressed_until = now + 2000
  redis.call('HSET', KEYS[1], 'pressed_until', whole(pressed_until))
end
redis.call('HSET', KEYS[2], owner, whole(held) .. '|' .. whole(now + tonumber(ARGV[10])) .. '|' .. whole(last))
redis.call('HSETNX', KEYS[1], 'scope', ARGV[12])
redis.call('EXPIREAT', KEYS[1], ARGV[9])
redis.call('EXPIREAT', KEYS[2], ARGV[9])
redis.call('ZADD', KEYS[4], ARGV[9], ARGV[11])
redis.call('ZREMRANGEBYSCORE', KEYS[4], '-inf', whole(now / 1000))
if redis.call('EXPIRETIME', KEYS[4]) < tonumber(ARGV[9]) then redis.call('EXPIREAT', KEYS[4], ARGV[9]) end
return {whole(held), whole(settled), whole(others), whole(limit), pressed_until > now and 1 or 0, generation, buckets}
