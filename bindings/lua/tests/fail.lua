-- The script fails: with what, the argument says.
local values = {
  string = "a string", number = 42, nothing = nil, table = {},
  object = setmetatable({}, {__tostring = function() return "an object" end}),
}
print("failing", #arg, arg[0] ~= nil, ...)
local function inner() error(values[arg[1]]) end
local function outer() inner() end
outer()
