-- Errors: values of all types, levels, handlers, errors in handlers, what a stack looks like.
print(pcall(error), pcall(error, nil), pcall(error, 42), pcall(error, "text", 0), pcall(error, "text"))
local object = setmetatable({}, {__tostring = function() return "an object" end})
print(select(2, pcall(error, object)) == object, tostring(object))
local function level(n) error("at level", n) end
for n = 0, 2 do print(pcall(function() level(n) end)) end
print(xpcall(function() error("first") end, function(m) return (debug.traceback(m):gsub("\n.*", "")) end))
print(xpcall(function() error("first") end, function(m) error("second") end))
print(pcall(xpcall), pcall(pcall), assert(1, "unused"), pcall(assert, false), pcall(assert, nil, object))
print(load("x ="), load("x = = 1", "=name"), load("'unfinished"))
print(pcall(load, function() error("reader") end))
print(load(function() error("reader") end))
local function nested(n) if n == 0 then error("bottom") end local ok, e = pcall(nested, n - 1) error(e, 0) end
print(pcall(nested, 100))
print(debug.traceback("here", 1))
print(pcall(require, "no.such.module") == false, pcall(string.rep), pcall(setmetatable, 1, {}))
print(pcall(string.format, "%d", 1.5), pcall(ipairs), pcall(next, {}, "none"))
local t = nil
print(pcall(function() return t.x end), pcall(function() t.f() end), pcall(function() return 1 < "2" end))
