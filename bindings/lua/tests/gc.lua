-- The collector in both modes, stopped and started, and its numbers where they are certain.
local function churn(n)
  local t
  for i = 1, n do t = {i, tostring(i), {t and #t}} end
  return t
end
for _, mode in ipairs {"incremental", "generational"} do
  print(collectgarbage(mode), collectgarbage("isrunning"))
  churn(20000)
  print(collectgarbage("stop"), collectgarbage("isrunning"))
  churn(1000)
  print(collectgarbage("restart"), collectgarbage("isrunning"))
  local before = collectgarbage("count")
  do local big = ("x"):rep(1 << 20) end
  collectgarbage()
  print(collectgarbage("count") - before < 1)
end
print(collectgarbage("incremental"))
repeat until collectgarbage("step", 100)
print(collectgarbage("setpause", 150) > 0, collectgarbage("setstepmul", 200) > 0)
local list
for i = 1, 100000 do list = {list} end
local n = 0
while list do n, list = n + 1, list[1] end
print(n)
