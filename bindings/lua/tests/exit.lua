-- The script ends with a number, after its finalizers if it says so.
setmetatable({}, {__gc = function() print("finalized") end})
print("leaving")
os.exit(tonumber(arg[1]) or true, arg[2] == "close")
