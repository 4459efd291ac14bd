# The binding of Lua.
