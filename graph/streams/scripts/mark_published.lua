#!lua
-- Remember that the queue has the job. KEYS: state.
if redis.call('EXISTS', KEYS[1]) == 1 then redis.call('HSET', KEYS[1], 'published', '1') end
return 'ok'
