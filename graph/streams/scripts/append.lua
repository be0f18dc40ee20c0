#!lua
-- Write events of a run in order and renew its lease. KEYS: state, events, answer, active jobs of the tenant.
-- ARGV after the first: seq, kind, data, text of each event.
local a = cjson.decode(ARGV[1])
local s = redis.call('HMGET', KEYS[1], 'run', 'owner', 'status', 'seq', 'cancelled')
if not s[1] then return {'missing', -1, 0} end
-- What a run costs is true whoever owns the job by now.
if #a.spending > 0 then redis.call('HSET', KEYS[1], unpack(a.spending)) end
-- It has lost this run's claim: no newer run owns the job.
if tonumber(s[1]) < a.run and (s[3] == 'queued' or s[3] == 'running') then return {'missing', -1, 0} end
if tonumber(s[1]) ~= a.run or s[2] ~= a.owner or s[3] == 'queued' then return {'fenced', -1, 0} end
local last, finished = tonumber(s[4]), s[3] ~= 'running'
if #ARGV > 1 and tonumber(ARGV[2]) > last + 1 then return {'behind', last, 0} end
if finished then
  if #ARGV > 1 and tonumber(ARGV[#ARGV - 3]) > last then return {'fenced', -1, 0} end
  return {'ok', last, 0}
end
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
redis.call('HSET', KEYS[1], 'lease_ms', now + a.lease_ms, 'status', a.status)
local texts = {}
for i = 2, #ARGV, 4 do
  local seq = tonumber(ARGV[i])
  if seq > last then
    redis.call('XADD', KEYS[2], 'MAXLEN', '=', a.max_events, a.run .. '-' .. seq, 'kind', ARGV[i + 1], 'data', ARGV[i + 2])
    if ARGV[i + 3] ~= '' then texts[#texts + 1] = ARGV[i + 3] end
    if ARGV[i + 1] == 'done' or ARGV[i + 1] == 'error' then redis.call('HSET', KEYS[1], 'result', ARGV[i + 2]) end
    last = seq
  end
end
redis.call('HSET', KEYS[1], 'seq', last)
if #texts > 0 then redis.call('APPEND', KEYS[3], table.concat(texts)) end
redis.call('PEXPIRE', KEYS[1], a.keep_ms)
redis.call('PEXPIRE', KEYS[2], a.keep_ms)
redis.call('PEXPIRE', KEYS[3], a.keep_ms)
if a.status ~= 'running' then redis.call('ZREM', KEYS[4], a.job_id) end
return {'ok', last, s[5] == '1' and 1 or 0}
