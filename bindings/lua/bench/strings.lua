-- Strings that are built: piece by piece, by concat, rep and format, most of them used once,
-- some kept.

local rounds = tonumber(arg[1]) or 400

local words = {}
for i = 1, 2000 do words[i] = string.format("word%d", i * 7919 % 10007) end

local kept, total = {}, 0
for round = 1, rounds do
  local lines = {}
  for i = 1, #words, 8 do
    lines[#lines + 1] = table.concat(words, " ", i, i + 7) .. ";" .. round
  end
  local text = table.concat(lines, "\n")
  local sums = {}
  for i = 1, #words do
    local name = words[i] .. ":" .. (i + round)
    sums[name] = i
    total = total + #name
  end
  for i = 1, 2000 do
    local key = "k" .. (i * round) % 4096
    kept[key] = key .. "=" .. i
  end
  local out = ""
  for i = 1, 200 do out = out .. lines[i % #lines + 1]:sub(1, 12) .. "\n" end
  total = total + #out + #text:upper():rep(2, "|") + #string.format("<%s>", text)
end
print(total)
