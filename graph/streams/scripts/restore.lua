#!lua
-- Create a running job again that Redis has lost. KEYS: state, events, active jobs of the tenant.
local a = cjson.decode(ARGV[1])
if redis.call('EXISTS', KEYS[1]) == 1 then return 'ok' end
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
redis.call('HSET', KEYS[1], 'status', 'running', 'run', a.run, 'seq', 0, 'owner', a.owner, 'alone', '0',
  'lease_ms', now + a.lease_ms, 'published', '1', 'tenant_id', a.tenant_id, 'user_id', a.user_id,
  'session_id', a.session_id, 'accepted_at', a.accepted_at, 'key', '')
if #a.spending > 0 then redis.call('HSET', KEYS[1], unpack(a.spending)) end
redis.call('XADD', KEYS[2], a.run .. '-0', 'kind', 'started', 'data', '{}')
redis.call('PEXPIRE', KEYS[1], a.keep_ms)
redis.call('PEXPIRE', KEYS[2], a.keep_ms)
redis.call('ZADD', KEYS[3], now + a.keep_ms, a.job_id)
return 'ok'
