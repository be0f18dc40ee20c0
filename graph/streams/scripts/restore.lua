#!lua
-- Create a running job again that Redis has lost, or its run if Redis has lost only that.
-- KEYS: state, events, answer, active jobs of the tenant.
local a = cjson.decode(ARGV[1])
local s = redis.call('HMGET', KEYS[1], 'run', 'status')
local has_ended = s[2] ~= 'queued' and s[2] ~= 'running'
if s[1] and (has_ended or tonumber(s[1]) >= a.run) then return 'ok' end
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
redis.call('HSET', KEYS[1], 'status', 'running', 'run', a.run, 'seq', 0, 'owner', a.owner, 'alone', '0',
  'lease_ms', now + a.lease_ms, 'published', '1')
if not s[1] then
  redis.call('HSET', KEYS[1], 'tenant_id', a.tenant_id, 'user_id', a.user_id, 'session_id', a.session_id,
    'accepted_at', a.accepted_at, 'key', '')
end
if #a.spending > 0 then redis.call('HSET', KEYS[1], unpack(a.spending)) end
redis.call('XADD', KEYS[2], a.run .. '-0', 'kind', 'started', 'data', '{}')
-- The tokens of an older run are of no use.
for _, entry in ipairs(redis.call('XRANGE', KEYS[2], '1-0', '(' .. a.run .. '-0')) do
  redis.call('XDEL', KEYS[2], entry[1])
end
redis.call('DEL', KEYS[3])
redis.call('PEXPIRE', KEYS[1], a.keep_ms)
redis.call('PEXPIRE', KEYS[2], a.keep_ms)
redis.call('ZADD', KEYS[4], now + a.keep_ms, a.job_id)
return 'ok'
