-- Sets what a ledger says was spent on an account that the store does not know, and returns whether it did not.
-- KEYS: account
-- ARGV: keep_until, then a bucket and its amount in turn
local fields = redis.call('HKEYS', KEYS[1])
for i = 1, #fields do
  if fields[i] == 'restored' or string.match(fields[i], '^b(-?%d+)$') then return 0 end
end
redis.call('HSET', KEYS[1], 'restored', '1')
for i = 2, #ARGV, 2 do
  redis.call('HINCRBY', KEYS[1], 'b' .. ARGV[i], ARGV[i + 1])
  redis.call('HINCRBY', KEYS[1], 'k' .. ARGV[i], ARGV[i + 1])
end
redis.call('EXPIREAT', KEYS[1], ARGV[1])
return 1
