-- Jumps, loops of all kinds, integer division, and numbers at their limits.
for i = 1, 3 do
  for j = 1, 3 do
    if j == 2 then goto continue end
    io.write(i, ":", j, " ")
    ::continue::
  end
end
print()
local n = 0
::top::
n = n + 1
if n < 5 then goto top end
print(n)
for i = 3, 1, -1 do io.write(i, " ") end
for x = 0.0, 1.0, 0.25 do io.write(x, " ") end
for i = math.maxinteger - 1, math.maxinteger do io.write(i, " ") end
print()
repeat local done = n > 8; n = n + 1 until done
print(n, 7 // 2, -7 // 2, 7 % -3, -7 % 3, 7.5 // 2, 1 << 63, 1 << 64, ~0, 5 // 0.0, pcall(function() return 1 // 0 end))
print(math.maxinteger + 1 == math.mininteger, math.type(3), math.type(3.0), 3 == 3.0, math.ult(1, -1), 10 / 2, 3 | 4, "10" + 5, 0x.8p1)
print(load("goto nowhere"))
print(load("for i = 1 do end"))
