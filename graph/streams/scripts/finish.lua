#!lua
-- Give a job without a live run its outcome. KEYS: state, events, active jobs of the tenant.
-- ARGV after the first: the event's data.
local a = cjson.decode(ARGV[1])
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local s = redis.call('HMGET', KEYS[1], 'status', 'run', 'seq', 'lease_ms')
if not s[1] then
  if a.cancel then return 'missing' end
  redis.call('HSET', KEYS[1], 'tenant_id', a.tenant_id, 'user_id', a.user_id, 'session_id', a.session_id,
    'accepted_at', a.accepted_at, 'run', '0', 'seq', '0', 'key', '', 'published', '1')
  s = {'queued', '0', '0'}
end
if s[1] == 'running' and tonumber(s[4] or '0') > now then
  -- The live run ends itself; if its worker dies before, the next claim does.
  if a.cancel then redis.call('HSET', KEYS[1], 'cancelled', '1') end
elseif s[1] == 'queued' or s[1] == 'running' then
  local seq = tonumber(s[3]) + 1
  -- Without an owner the dead run is fenced, should its worker wake up.
  redis.call('HSET', KEYS[1], 'status', a.status, 'seq', seq, 'result', ARGV[2], 'owner', '')
  redis.call('XADD', KEYS[2], s[2] .. '-' .. seq, 'kind', a.kind, 'data', ARGV[2])
  redis.call('ZREM', KEYS[3], a.job_id)
  redis.call('PEXPIRE', KEYS[1], a.keep_ms)
  redis.call('PEXPIRE', KEYS[2], a.keep_ms)
end
return 'ok'
