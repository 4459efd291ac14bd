-- Files, with buffers of their own, and what finalizers do for them.
local name = os.tmpname()
local f = assert(io.open(name, "w"))
print(io.type(f), f:setvbuf("full", 1024), f:seek("cur"))
for i = 1, 1000 do f:write(i, "\n") end
f:close()
print(io.type(f), pcall(f.write, f, "x"))
local sum = 0
for line in io.lines(name) do sum = sum + tonumber(line) end
print(sum)
f = io.open(name)
print(f:read("n", "l", "L", 4))
print(#f:read("a"), f:read("a"), f:read("l"))
f:seek("set", 0)
print(#f:read("a"), f:seek("end"))
for i = 1, 50 do local unclosed = io.open(name) end
collectgarbage()
print(pcall(io.lines, name .. ".none") == false, io.open(name .. ".none") == nil)
f:close()
print(os.remove(name), os.getenv("NO_SUCH_VARIABLE"), type(os.time()), os.date("!%Y", 0))
