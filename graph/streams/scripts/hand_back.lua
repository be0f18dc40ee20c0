#!lua
-- End a run without an outcome. KEYS: state.
local a = cjson.decode(ARGV[1])
local s = redis.call('HMGET', KEYS[1], 'run', 'owner', 'status')
if s[1] and tonumber(s[1]) == a.run and s[2] == a.owner and s[3] == 'running' then
  redis.call('HSET', KEYS[1], 'status', 'queued')
  if a.usd then redis.call('HSET', KEYS[1], 'usd', a.usd) end
end
return 'ok'
