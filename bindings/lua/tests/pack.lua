-- Binary strings, and text in UTF-8.
local s = string.pack(">i4 z s2 d B", -2, "zero", "counted", 1.25, 200)
print(#s, string.unpack(">i4 z s2 d B", s))
print(string.packsize("<i8 i4 !8 d"), s:byte(1, -1))
for _, f in ipairs {"<i3", ">I7", "=j", "<n", "!4 i8"} do print(f, string.unpack(f, string.pack(f, 77))) end
print(pcall(string.pack, "i1", 300), pcall(string.unpack, "i8", "short"), pcall(string.pack, "i17", 1))
local u = "naïve – 日本語 \u{1F600}"
print(#u, utf8.len(u), utf8.char(72, 228, 8364, 128512), utf8.codepoint(u, 1, 4))
for p, c in utf8.codes("aé日") do io.write(p, "=", c, " ") end
print(utf8.offset(u, 5), utf8.len("\xff"), utf8.charpattern)
for c in u:gmatch(utf8.charpattern) do io.write("[", c, "]") end
print(pcall(utf8.codepoint, "\xff"))
