#!lua
-- Forget a job that could not be handed to the queue. KEYS: state, events, answer, active jobs of the tenant.
local a = cjson.decode(ARGV[1])
local s = redis.call('HMGET', KEYS[1], 'run', 'published', 'repeated', 'key')
if s[1] ~= '0' or s[2] == '1' or s[3] == '1' then return 'kept' end
redis.call('ZREM', KEYS[4], a.job_id)
redis.call('DEL', KEYS[1], KEYS[2], KEYS[3])
if s[4] ~= '' then redis.call('DEL', s[4]) end
return 'ok'
