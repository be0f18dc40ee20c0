#!lua
-- Let a dead job run again. KEYS: state, events.
local a = cjson.decode(ARGV[1])
local s = redis.call('HMGET', KEYS[1], 'status', 'run', 'seq')
if not s[1] then return 'missing' end
if s[1] == 'dead' then
  redis.call('HSET', KEYS[1], 'status', 'queued', 'crashes', 0, 'crashes_alone', 0)
  redis.call('HDEL', KEYS[1], 'result')
  redis.call('XDEL', KEYS[2], s[2] .. '-' .. s[3])
end
if s[1] == 'dead' or s[1] == 'queued' or s[1] == 'running' then
  redis.call('HSET', KEYS[1], 'accepted_at', a.accepted_at)
  redis.call('PEXPIRE', KEYS[1], a.keep_ms)
  redis.call('PEXPIRE', KEYS[2], a.keep_ms)
end
return 'ok'
