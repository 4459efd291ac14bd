-- Runs the script that it is given, and then writes to standard error the processor time since
-- the start, in seconds, and the peak of resident memory, in KiB: of this process alone.

local script = table.remove(arg, 1)
arg[0] = script
dofile(script)
local seconds = os.clock()
for line in io.lines("/proc/self/status") do
  local peak = line:match("^VmHWM:%s*(%d+)")
  if peak then io.stderr:write(string.format("%.6f %d\n", seconds, peak)) end
end
