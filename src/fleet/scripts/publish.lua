-- Stores the set of the leader.
-- ARGV: owner; token, or 0 if the leader does not know it; expires; fresh_until; sealed.
-- Returns 1: stored, 0: another host has led since, 2: the stored set expires as late, or later.
local stored = redis.call('HMGET', KEYS[1], 'owner', 'token', 'expires')
if stored[1] ~= ARGV[1] or (ARGV[2] ~= '0' and stored[2] ~= ARGV[2]) then return 0 end
redis.call('HDEL', KEYS[1], 'owner', 'lease', 'failures', 'paused')
if (tonumber(stored[3] or '') or 0) >= tonumber(ARGV[3]) then return 2 end
redis.call('HSET', KEYS[1], 'expires', ARGV[3], 'fresh_until', ARGV[4], 'sealed', ARGV[5])
local time = redis.call('TIME')
local left = tonumber(ARGV[3]) - time[1] * 1000
redis.call('PEXPIRE', KEYS[1], string.format('%.0f', math.max(60000, math.min(left, 172800000))))
return 1
