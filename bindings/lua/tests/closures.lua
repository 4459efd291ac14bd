-- Closures that share variables, that outlive their functions, and many of them.
local function account(n)
  return function(by) n = n + by return n end, function() return n end
end
local add, get = account(10)
add(5)
print(get(), add(-20), get())
local fs = {}
for i = 1, 5 do local k = i * i fs[i] = function() k = k + 1 return k end end
print(fs[1](), fs[1](), fs[2](), fs[5]())
local function curry(f, n, ...)
  local args = {...}
  if n == 0 then return f(...) end
  return function(x) local t = {table.unpack(args)} t[#t + 1] = x return curry(f, n - 1, table.unpack(t)) end
end
print(curry(function(a, b, c) return a .. b .. c end, 3)("x")("y")("z"))
local many = {}
for i = 1, 20000 do many[i] = function() return i end end
local sum = 0
for i = 1, #many do sum = sum + many[i]() end
print(sum)
local function fib(n) if n < 2 then return n end return fib(n - 1) + fib(n - 2) end
print(fib(20), (function(...) return select("#", ...) end)(nil, nil))
local env = {print = print}
load("x = 1 print(x)", "chunk", "t", env)()
print(x, env.x, debug.upvalueid(add, 1) == debug.upvalueid(get, 1))
