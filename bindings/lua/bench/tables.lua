-- Tables that come and go at random among a large number of live ones, and that grow: records
-- with fields, arrays, hashes that are filled and emptied.

local live, steps = tonumber(arg[1]) or 100000, tonumber(arg[2]) or 1500000

local seed = 42
local function roll(n)
  seed = (seed * 1103515245 + 12345) & 0x7fffffff
  return (seed >> 8) % n + 1
end

local records = {}
for i = 1, live do records[i] = {id = i, name = i * 2, next = false} end

local sum = 0
for step = 1, steps do
  local i = roll(live)
  local old = records[i]
  local kind = step & 7
  if kind == 0 then
    local list = {}
    for k = 1, 10 do list[k] = k + i end
    records[i] = {id = step, list = list, next = false}
  elseif kind == 1 then
    records[i] = {id = step, name = old.id, x = 1.5, y = 2.5, z = step, next = false}
  else
    records[i] = {id = step, name = old.id, next = false}
  end
  sum = sum + old.id
end
print(sum)
