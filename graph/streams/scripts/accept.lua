#!lua
-- Remember a new job and write its queued event. KEYS: state, events, active jobs of the tenant, idempotency key.
local a = cjson.decode(ARGV[1])
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
if a.key then
  local first = redis.call('HMGET', KEYS[4], 'job_id', 'digest')
  if first[1] then
    local state = a.prefix .. first[1] .. ':state'
    local published = redis.call('HGET', state, 'published')
    if published then
      if first[2] ~= a.digest then return {'conflict', first[1], published} end
      -- Two requests hand it to the queue now: the first one may no longer withdraw it.
      if first[1] ~= a.job_id then redis.call('HSET', state, 'repeated', '1') end
      return {'repeated', first[1], published}
    end
  end
end
if redis.call('EXISTS', KEYS[1]) == 1 then
  return {'repeated', a.job_id, redis.call('HGET', KEYS[1], 'published') or '0'}
end
redis.call('ZREMRANGEBYSCORE', KEYS[3], '-inf', now)
if a.max_active and redis.call('ZCARD', KEYS[3]) >= a.max_active then
  return {'too_many', a.job_id, '0'}
end
redis.call('HSET', KEYS[1], 'status', 'queued', 'run', '0', 'seq', '1', 'published', '0', 'tenant_id', a.tenant_id,
  'user_id', a.user_id, 'session_id', a.session_id, 'accepted_at', a.accepted_at, 'key', a.key and KEYS[4] or '')
redis.call('XADD', KEYS[2], '0-1', 'kind', 'queued', 'data', '{}')
redis.call('PEXPIRE', KEYS[1], a.keep_ms)
redis.call('PEXPIRE', KEYS[2], a.keep_ms)
redis.call('ZADD', KEYS[3], now + a.keep_ms, a.job_id)
redis.call('PEXPIRE', KEYS[3], a.keep_ms)
if a.key then
  redis.call('HSET', KEYS[4], 'job_id', a.job_id, 'digest', a.digest)
  redis.call('PEXPIRE', KEYS[4], a.keep_ms)
end
return {'accepted', a.job_id, '0'}
