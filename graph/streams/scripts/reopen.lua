#!lua
-- Let a dead job run again. KEYS: state, events.
local s = redis.call('HMGET', KEYS[1], 'status', 'run', 'seq')
if not s[1] then return 'missing' end
if s[1] == 'dead' then
  redis.call('HSET', KEYS[1], 'status', 'queued', 'crashes', 0, 'crashes_alone', 0)
  redis.call('HDEL', KEYS[1], 'result')
  redis.call('XDEL', KEYS[2], s[2] .. '-' .. s[3])
end
return 'ok'
