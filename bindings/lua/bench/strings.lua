-- Strings that are cut, joined, formatted and replaced, most of them used once, some kept.

local rounds = tonumber(arg[1]) or 60

local words = {}
for i = 1, 2000 do words[i] = string.format("word%d", i * 7919 % 10007) end

local kept, total = {}, 0
for round = 1, rounds do
  local lines = {}
  for i = 1, #words, 8 do
    local line = table.concat(words, " ", i, i + 7) .. ";" .. round
    lines[#lines + 1] = line:upper():gsub("WORD", "w")
  end
  local text = table.concat(lines, "\n")
  local sums = {}
  for word in text:gmatch("[%w;]+") do
    local name = word .. ":" .. #word
    sums[name] = (sums[name] or 0) + 1
    total = total + #name
  end
  for i = 1, 2000 do
    local key = "k" .. (i * round) % 4096
    kept[key] = key .. "=" .. tostring(i)
  end
  local out = ""
  for i = 1, 200 do out = out .. lines[i % #lines + 1]:sub(1, 12) .. "\n" end
  total = total + #out + #text:reverse():rep(2)
end
print(total)
