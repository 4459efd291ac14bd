-- What the library of strings does, with short strings, long ones and none.
local s = "the quick brown fox"
print(#s, s:upper(), s:reverse(), s:sub(5, 9), s:sub(-3), s:byte(1, 3))
print(s:find("quick"), s:find("o", 1, true), s:find("(%a+) (%a+)"))
print(s:gsub("%a+", function(w) return w:sub(1, 1):upper() .. w:sub(2) end))
print(s:gsub("o", {o = "0"}), ("x"):rep(3, ","), ("%d|%5.2f|%q|%s"):format(7, 1 / 3, "a\nb", nil))
for w, n in ("a=1, b=22, c=333"):gmatch("(%w+)=(%w+)") do io.write(w, ":", n, " ") end
print()
local parts = {}
for i = 1, 2000 do parts[i] = ("%x"):format(i) end
local all = table.concat(parts, "-")
print(#all, all:sub(1, 40), all:sub(-40))
local text = ""
for i = 1, 500 do text = text .. i end
print(#text, text:sub(700, 760))
print(("x"):rep(100000):gsub("x", "yz"):len(), #string.rep("ab", 50000, "c"))
print(tostring(12), tostring(1.5), tostring(1e100), tostring(-0.0), 2^53, 1 // 0.0, math.mininteger)
print(tonumber("0x10"), tonumber("  12  "), tonumber("1e1"), tonumber("z", 36), tonumber("8", 8))
print("a" < "b", "a" < "B", "" < "a", "a\0b" < "a\0c", #"a\0b")
