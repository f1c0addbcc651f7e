-- A newer set, or the lead. The key is a hash of one set: expires, fresh_until, sealed; token, owner and lease of the
-- lead; failures in a row, and the end of the pause after them. Times are milliseconds since 1970.
-- ARGV: owner; the milliseconds of the lease; the expiry of the caller's set; an expiry that does not count.
-- Returns the turn (0 nobody, 1 the caller, 2 another, 3 paused), now, token or milliseconds, failures, then the set.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local stored = redis.call('HMGET', KEYS[1], 'expires', 'fresh_until', 'sealed', 'token', 'owner', 'lease', 'failures', 'paused')
-- What no script wrote counts as 0.
local function number(place)
    local found = tonumber(stored[place] or '')
    return found and found >= 0 and found < 9e15 and math.floor(found) or 0
end
local expires, newer = number(1), {}
if stored[3] and expires > tonumber(ARGV[3]) and expires ~= tonumber(ARGV[4]) and expires > now then
    newer = {stored[1], stored[2], stored[3]}
end
local function answer(turn, value)
    return {turn, string.format('%.0f', now), string.format('%.0f', value), number(7), newer[1], newer[2], newer[3]}
end
if newer[1] and now < number(2) then return answer(0, 0) end
if stored[5] and stored[5] ~= ARGV[1] and number(6) > now then
    return answer(2, math.min(number(6) - now, 86400000))
end
if number(8) > now and number(8) <= now + 60000 then return answer(3, number(8) - now) end
-- Greater than each token before, also if the store has lost the last ones.
local token = math.max(number(4) + 1, time[1] * 1000000 + time[2])
redis.call('HSET', KEYS[1], 'token', string.format('%.0f', token), 'owner', ARGV[1],
    'lease', string.format('%.0f', now + tonumber(ARGV[2])))
local left = math.max(expires - now, tonumber(ARGV[2])) + 60000
redis.call('PEXPIRE', KEYS[1], string.format('%.0f', math.min(left, 172800000)))
return answer(1, token)
