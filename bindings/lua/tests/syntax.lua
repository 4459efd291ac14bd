-- A script that is none.
local x = = 1
