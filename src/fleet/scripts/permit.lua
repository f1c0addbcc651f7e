-- One permit of a budget. The key holds when the budget is free again, in microseconds since 1970.
-- ARGV: the microseconds of one call; how far the budget may be used ahead of time; the longest wait of the caller.
-- Returns whether the permit is granted, and the microseconds to wait.
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local interval, burst, patience = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local free = tonumber(redis.call('GET', KEYS[1]) or '')
-- A later time than any grant leaves was not written by this script, or the clock went back.
if not free or free ~= free or free < now or free > now + 60000000 + burst + interval then
    free = now
end
local wait = math.max(0, free - burst - now)
if wait > patience then
    return {0, wait}
end
free = free + interval
redis.call('SET', KEYS[1], string.format('%.0f', free), 'PX', string.format('%.0f', math.ceil((free - now) / 1000) + 1000))
return {1, wait}
