-- Coroutines: thousands at once, deep ones, errors and closing.
local function producer(n)
  return coroutine.wrap(function() for i = 1, n do coroutine.yield(i) end return "end" end)
end
local list, sum = {}, 0
for i = 1, 3000 do list[i] = producer(3) end
for round = 1, 3 do for i = 1, 3000 do sum = sum + list[i]() end end
print(sum, list[1](), pcall(list[1]))
local function deep(n) if n == 0 then coroutine.yield("deep") return 0 end return 1 + deep(n - 1) end
local co = coroutine.create(deep)
print(coroutine.resume(co, 10000))
print(coroutine.status(co), coroutine.resume(co))
print(coroutine.status(co), coroutine.resume(co))
co = coroutine.create(function()
  local x <close> = setmetatable({}, {__close = function() print("closed") end})
  coroutine.yield(1)
end)
print(coroutine.resume(co))
print(coroutine.close(co), coroutine.status(co))
co = coroutine.create(function() error({code = 7}) end)
local ok, e = coroutine.resume(co)
print(ok, e.code, coroutine.isyieldable(), select("#", coroutine.running()))
print(select(2, coroutine.resume(coroutine.create(function() return pcall(function()
  coroutine.yield() end) end))))
