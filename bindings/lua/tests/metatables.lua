-- Metatables: operators, indexing, calls, inheritance, conversions.
local V = {}
V.__index = V
local function vec(x, y) return setmetatable({x = x, y = y}, V) end
V.__add = function(a, b) return vec(a.x + b.x, a.y + b.y) end
V.__mul = function(a, b) return type(b) == "number" and vec(a.x * b, a.y * b) or a.x * b.x + a.y * b.y end
V.__eq = function(a, b) return a.x == b.x and a.y == b.y end
V.__lt = function(a, b) return a.x < b.x end
V.__le = function(a, b) return a.x <= b.x end
V.__len = function(a) return 2 end
V.__concat = function(a, b) return tostring(a) .. "&" .. tostring(b) end
V.__call = function(self, k) return self[k] end
V.__tostring = function(a) return "(" .. a.x .. ", " .. a.y .. ")" end
V.__unm = function(a) return vec(-a.x, -a.y) end
V.__idiv, V.__band, V.__shl = function() return "idiv" end, function() return "band" end, function() return "shl" end
V.__name = "vector"
local a, b = vec(1, 2), vec(3, 4)
print(tostring(a + b), tostring(a * 3), a * b, a == vec(1, 2), a < b, a <= b, a > b, #a, a .. b, a("y"), tostring(-a))
print(a // 1, a & 1, a << 1, rawequal(a, vec(1, 2)), rawlen(a), rawget(a, "z"))
local defaults = setmetatable({}, {__index = function(t, k) return k .. "!" end, __newindex = function(t, k, v) rawset(t, k, v * 2) end})
defaults.x = 21
print(defaults.x, defaults.y, next(defaults))
local base = {hello = function(self) return "hello " .. self.name end}
local derived = setmetatable({name = "d"}, {__index = setmetatable({}, {__index = base})})
print(derived:hello(), getmetatable("").__index == string)
print(pcall(function() return a.x.y.z end), pcall(function() return {} + 1 end), pcall(function() return #5 end))
print(getmetatable(setmetatable({}, {__metatable = "locked"})), pcall(setmetatable, setmetatable({}, {__metatable = 1}), {}))
for k, v in pairs(setmetatable({}, {__pairs = function() return function(_, k) if not k then return 1, 2 end end, nil, nil end})) do print(k, v) end
