#!lua
-- Read the state so far and its position at one moment. KEYS: state, events, answer.
local s = redis.call('HMGET', KEYS[1], 'status', 'run', 'seq')
if not s[1] then return {} end
local last = redis.call('XREVRANGE', KEYS[2], '+', '-', 'COUNT', 1)
local kind, data = '', ''
if last[1] then kind, data = last[1][2][2], last[1][2][4] end
return {s[1], s[2], s[3], redis.call('GET', KEYS[3]) or '', kind, data}
