-- Claims an event of an account, and returns whether this claim holds; the others' then do not. The same claim can come
-- again: its answer was lost.
-- KEYS: account
-- ARGV: event, limit, bucket, oldest bucket, keep_until, token of the claim
local field = 'e' .. ARGV[1]
local claimed = redis.call('HGET', KEYS[1], field)
if claimed then
  local limit, bucket, token = string.match(claimed, '^(%d+)|(-?%d+)|(.*)$')
  local is_newer = limit and (tonumber(ARGV[2]) > tonumber(limit) or tonumber(ARGV[4]) > tonumber(bucket))
  if token ~= ARGV[6] and not is_newer then return 0 end
end
local fields = redis.call('HKEYS', KEYS[1])
for i = 1, #fields do
  if string.sub(fields[i], 1, 1) == 'e' and (fields[i] == 'ereset') ~= (field == 'ereset') then
    redis.call('HDEL', KEYS[1], fields[i])
  end
end
redis.call('HSET', KEYS[1], field, ARGV[2] .. '|' .. ARGV[3] .. '|' .. ARGV[6])
-- An account that is forgotten already must end too.
local now = tonumber(redis.call('TIME')[1])
redis.call('EXPIREAT', KEYS[1], string.format('%.0f', math.max(tonumber(ARGV[5]), now + 60)))
return 1
