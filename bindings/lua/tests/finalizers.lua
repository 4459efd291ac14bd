-- Finalizers: their order, errors in them, objects that come back, and those at the end.
local log = {}
local function object(name, f)
  return setmetatable({name = name}, {__gc = f or function(o) log[#log + 1] = o.name end})
end
for i = 1, 5 do object(i) end
collectgarbage()
print(table.concat(log, " "))
local back
object("again", function(o) back = o end)
collectgarbage()
print(back.name)
object("broken", function() error("in a finalizer") end)
collectgarbage()
do
  local a <close> = setmetatable({}, {__close = function(_, e) print("closed a", e) end})
  local b <close> = setmetatable({}, {__close = function() print("closed b") end})
end
print(pcall(function()
  local a <close> = setmetatable({}, {__close = function(_, e) print("closed by", e) end})
  error("reason", 0)
end))
for i = 1, 3 do _G["at end " .. i] = object("at end " .. i, function(o) print(o.name) end) end
