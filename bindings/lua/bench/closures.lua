-- Closures with upvalues of their own: counters, composed functions, iterators, coroutines.

local rounds = tonumber(arg[1]) or 400

local function counter(start)
  local n = start
  return function(by)
    n = n + by
    return n
  end
end

local function compose(f, g)
  return function(x) return f(g(x)) end
end

local function range(first, last)
  return function()
    if first > last then return nil end
    first = first + 1
    return first - 1
  end
end

local sum = 0
for round = 1, rounds do
  local counters = {}
  for i = 1, 1000 do counters[i] = counter(i) end
  for i = 1, 1000 do sum = sum + counters[i](round) end
  local f = function(x) return x end
  for i = 1, 100 do
    local g = function(x) return x + i end
    f = compose(g, f)
  end
  sum = sum + f(round)
  for i = 1, 300 do
    for k in range(i, i + 3) do sum = sum + k end
  end
  for i = 1, 40 do
    local producer = coroutine.wrap(function()
      for k = 1, 5 do coroutine.yield(k * i) end
    end)
    for _ = 1, 5 do sum = sum + producer() end
  end
end
print(sum)
