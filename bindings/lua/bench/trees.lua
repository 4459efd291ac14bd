-- Binary trees that are built, counted and dropped: small tables, each with a hash or an
-- array of its own. After the program of the same name in the Computer Language Benchmarks Game.

local depth = tonumber(arg[1]) or 15

local function make(height)
  if height == 0 then return {} end
  return {make(height - 1), make(height - 1)}
end

local function count(tree)
  local left = tree[1]
  if not left then return 1 end
  return 1 + count(left) + count(tree[2])
end

local kept = make(depth)
for height = 4, depth, 4 do
  local rounds = 1 << (depth - height + 4)
  local nodes = 0
  for _ = 1, rounds do nodes = nodes + count(make(height)) end
  print(string.format("%d trees of height %d: %d nodes", rounds, height, nodes))
end
print(string.format("the tree of height %d: %d nodes", depth, count(kept)))
