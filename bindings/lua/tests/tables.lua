-- Tables: moving, sorting, growing, shrinking, holes, next while assigning.
local t = table.move({1, 2, 3, 4, 5}, 2, 5, 4)
print(table.concat(t, ","), table.concat(table.move({1, 2, 3}, 1, 3, 2, {9}), ","))
local seed = 7
local function roll() seed = (seed * 16807) % 2147483647 return seed end
local list = {}
for i = 1, 5000 do list[i] = roll() % 1000 end
table.sort(list)
for i = 2, #list do assert(list[i - 1] <= list[i]) end
table.sort(list, function(a, b) return a > b end)
print(list[1], list[2500], list[5000], pcall(table.sort, {1, "x", 2}))
print(pcall(table.sort, {3, 1, 2, 5, 4, 7, 6}, function() return true end) ~= nil)
for i = 1, 2000 do table.insert(list, 1 + i % 100, i) end
for i = 1, 2000 do table.remove(list, 1 + i % 50) end
print(#list, table.unpack(list, 1, 5))
local hash = {}
for i = 1, 10000 do hash["k" .. i] = i end
for i = 1, 10000, 3 do hash["k" .. i] = nil end
local n, sum = 0, 0
for k, v in pairs(hash) do n, sum = n + 1, sum + v hash[k] = nil end
print(n, sum, next(hash), #{1, 2, nil, 4} >= 2, select("#", table.unpack({}, 1, 3)))
local big = {}
for i = 1, 200000 do big[i] = i end
for i = #big, 10, -1 do big[i] = nil end
collectgarbage()
for i = 10, 300 do big[i * 1000] = i end
print(#big, big[300000], table.pack(1, nil, 3).n)
print(pcall(function() local x = {} x[nil] = 1 end), pcall(rawset, {}, 0 / 0, 1))
