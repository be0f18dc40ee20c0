#!lua
-- End a run without an outcome. KEYS: state.
local a = cjson.decode(ARGV[1])
local s = redis.call('HMGET', KEYS[1], 'run', 'owner', 'status')
if s[1] and #a.spending > 0 then redis.call('HSET', KEYS[1], unpack(a.spending)) end
if s[1] and tonumber(s[1]) == a.run and s[2] == a.owner and s[3] == 'running' then
  redis.call('HSET', KEYS[1], 'status', 'queued')
end
return 'ok'
