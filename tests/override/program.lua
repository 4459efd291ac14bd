-- Tables, strings, closures, coroutines, and the collector.
local count = {}
for i = 1, 200000 do
  local key = "key" .. (i * 7919 % 30011)
  count[key] = (count[key] or 0) + i
end
local keys, total = 0, 0
for _, value in pairs(count) do
  keys, total = keys + 1, total + value
end
print(keys, total)
local parts = {}
for i = 1, 50000 do parts[#parts + 1] = string.rep("x", i % 100) end
print(#table.concat(parts))
collectgarbage()
local function numbers(n)
  return coroutine.wrap(function() for i = 1, n do coroutine.yield({ value = i }) end end)
end
local sum = 0
for _ = 1, 200 do
  for object in numbers(100) do sum = sum + object.value end
end
print(sum)
print(select(2, string.rep("some text ", 20000):gsub("text", "words")))
count, parts = nil, nil
collectgarbage()
