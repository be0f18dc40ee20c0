#!lua
-- Begin a run of a job, unless it has its outcome or a live run, or the user has cancelled it. KEYS: state, events, answer.
local a = cjson.decode(ARGV[1])
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local s = redis.call('HMGET', KEYS[1], 'status', 'run', 'lease_ms', 'crashes', 'crashes_alone', 'alone', 'accepted_at', 'cancelled',
  'owner', 'dead_run')
local fields, runs = redis.call('HGETALL', KEYS[1]), {}
for i = 1, #fields, 2 do
  if string.sub(fields[i], 1, 4) == 'run:' then runs[#runs + 1] = fields[i + 1] end
end
local status, old_run = s[1] or 'queued', tonumber(s[2] or '0')
if status ~= 'queued' and status ~= 'running' then
  return {status == 'dead' and 'dead' or 'finished', old_run, 0, 0, 0, runs, 0, ''}
end
local died = status == 'running'
if died and s[9] == a.owner then
  -- The reply to this claim was lost: its run goes on.
  redis.call('HSET', KEYS[1], 'lease_ms', now + a.lease_ms)
  return {'started', old_run, tonumber(s[4]), tonumber(s[5]), tonumber(s[10]), runs, 0, s[7]}
end
local lease = tonumber(s[3] or '0')
if died and lease > now then
  return {'held', old_run, 0, 0, 0, {}, lease - now, ''}
end
if s[8] == '1' then
  return {'cancelled', old_run, 0, 0, 0, runs, 0, ''}
end
local crashes, crashes_alone = tonumber(s[4] or '0'), tonumber(s[5] or '0')
if died then
  crashes = crashes + 1
  if s[6] == '1' then crashes_alone = crashes_alone + 1 end
end
if crashes > a.max_shared_crashes and a.alone == 0 then
  return {'suspect', old_run, crashes, crashes_alone, 0, {}, 0, ''}
end
local run, dead_run = old_run + 1, died and old_run or 0
redis.call('HSET', KEYS[1], 'status', 'running', 'run', run, 'seq', 0, 'owner', a.owner, 'alone', a.alone,
  'lease_ms', now + a.lease_ms, 'crashes', crashes, 'crashes_alone', crashes_alone,
  'dead_run', dead_run, 'published', '1')
if not s[1] then
  redis.call('HSET', KEYS[1], 'tenant_id', a.tenant_id, 'user_id', a.user_id, 'session_id', a.session_id,
    'accepted_at', a.accepted_at, 'key', '')
end
redis.call('XADD', KEYS[2], run .. '-0', 'kind', 'started', 'data', '{}')
-- The tokens of a dead run are of no use: the new run writes the answer again.
if old_run > 0 then
  local old = redis.call('XRANGE', KEYS[2], '1-0', '(' .. run .. '-0')
  for _, entry in ipairs(old) do redis.call('XDEL', KEYS[2], entry[1]) end
end
redis.call('DEL', KEYS[3])
redis.call('PEXPIRE', KEYS[1], a.keep_ms)
redis.call('PEXPIRE', KEYS[2], a.keep_ms)
return {'started', run, crashes, crashes_alone, dead_run, runs, 0, s[7] or a.accepted_at}
