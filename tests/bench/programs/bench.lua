-- Binary trees: one that stays, and many that come and go. Prints how many nodes they
-- had.
local function make(depth)
  if depth == 0 then return {} end
  return { make(depth - 1), make(depth - 1) }
end

local function count(tree)
  if tree[1] == nil then return 1 end
  return 1 + count(tree[1]) + count(tree[2])
end

local highest = 16
print("high", count(make(highest + 1)))
local kept = make(highest)
for depth = 4, highest, 4 do
  local nodes, number = 0, 1 << (highest - depth + 3)
  for _ = 1, number do nodes = nodes + count(make(depth)) end
  print(depth, number, nodes)
end
print("kept", count(kept))
