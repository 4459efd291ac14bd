-- Planets that move: arithmetic on the fields of five tables, and next to no allocation. It is
-- here as the control: whatever it shows is noise, or the interpreter. After the program of the
-- same name in the Computer Language Benchmarks Game.

local steps = tonumber(arg[1]) or 400000

local sqrt = math.sqrt
local bodies = {
  {x = 0, y = 0, z = 0, vx = 0, vy = 0, vz = 0, mass = 39.47},
  {x = 4.84, y = -1.16, z = -0.10, vx = 0.61, vy = 2.81, vz = -0.02, mass = 0.0376},
  {x = 8.34, y = 4.12, z = -0.40, vx = -1.01, vy = 1.82, vz = 0.008, mass = 0.0112},
  {x = 12.89, y = -15.11, z = -0.22, vx = 1.08, vy = 0.86, vz = -0.01, mass = 0.0017},
  {x = 15.37, y = -25.91, z = 0.17, vx = 0.97, vy = 0.59, vz = -0.03, mass = 0.0020},
}

local function energy()
  local e = 0
  for i, a in ipairs(bodies) do
    e = e + 0.5 * a.mass * (a.vx * a.vx + a.vy * a.vy + a.vz * a.vz)
    for k = i + 1, #bodies do
      local b = bodies[k]
      local dx, dy, dz = a.x - b.x, a.y - b.y, a.z - b.z
      e = e - a.mass * b.mass / sqrt(dx * dx + dy * dy + dz * dz)
    end
  end
  return e
end

local function advance(dt)
  local n = #bodies
  for i = 1, n do
    local a = bodies[i]
    local ax, ay, az, mass = a.x, a.y, a.z, a.mass
    local vx, vy, vz = a.vx, a.vy, a.vz
    for k = i + 1, n do
      local b = bodies[k]
      local dx, dy, dz = ax - b.x, ay - b.y, az - b.z
      local square = dx * dx + dy * dy + dz * dz
      local pull = dt / (square * sqrt(square))
      vx, vy, vz = vx - dx * b.mass * pull, vy - dy * b.mass * pull, vz - dz * b.mass * pull
      b.vx, b.vy, b.vz = b.vx + dx * mass * pull, b.vy + dy * mass * pull,
        b.vz + dz * mass * pull
    end
    a.vx, a.vy, a.vz = vx, vy, vz
    a.x, a.y, a.z = ax + dt * vx, ay + dt * vy, az + dt * vz
  end
end

print(string.format("%.9f", energy()))
for _ = 1, steps do advance(0.001) end
print(string.format("%.9f", energy()))
