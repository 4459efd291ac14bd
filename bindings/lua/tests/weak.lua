-- Weak keys, weak values, ephemerons; strings and numbers are never removed.
local function size(t)
  local n = 0
  for _ in pairs(t) do n = n + 1 end
  return n
end
local keys, values = setmetatable({}, {__mode = "k"}), setmetatable({}, {__mode = "v"})
local kept = {}
for i = 1, 100 do
  local key = {}
  keys[key], values[i] = i, key
  if i % 4 == 0 then kept[#kept + 1] = key end
end
keys.name, values.name = "string", "string"
collectgarbage()
print(size(keys), size(values), #kept)
local chain = setmetatable({}, {__mode = "k"})
local first = {}
do
  local key = first
  for i = 1, 50 do
    local next = {}
    chain[key] = next
    key = next
  end
end
collectgarbage()
print(size(chain))
first = nil
collectgarbage()
print(size(chain))
local both = setmetatable({}, {__mode = "kv"})
both[{}], both[1], both[kept] = 1, {}, kept
collectgarbage()
print(size(both), both[kept] == kept)
