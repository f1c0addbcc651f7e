-- Ends the lead without a set.
-- ARGV: owner; token, or 0 if the leader does not know it; the milliseconds of the pause.
-- Returns 1, or 0 if another host has led since.
local stored = redis.call('HMGET', KEYS[1], 'owner', 'token')
if stored[1] ~= ARGV[1] or (ARGV[2] ~= '0' and stored[2] ~= ARGV[2]) then return 0 end
redis.call('HDEL', KEYS[1], 'owner', 'lease')
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('HINCRBY', KEYS[1], 'failures', 1)
redis.call('HSET', KEYS[1], 'paused', string.format('%.0f', now + tonumber(ARGV[3])))
return 1
