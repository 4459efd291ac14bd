/* drop.c - how long a state takes to go, with so many objects in it: closed by lua_close,
 * over mirt and over malloc, and dropped by mirt_lua_drop. Each is printed in
 * milliseconds.
 *
 * Copyright (c) 2026 the mirt authors. SPDX-License-Identifier: MIT
 */
#include <lauxlib.h>
#include <lualib.h>
#include <mirt/lua.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* A table, a closure with an upvalue, a string, and the table's hash part: five blocks.
 * */
static const char text[] = "collectgarbage('stop')\n"
                           "kept = {}\n"
                           "for i = 1, ... do\n"
                           "  local value = 's' .. i\n"
                           "  kept[i] = {f = function() return value end}\n"
                           "end\n";

static double now(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return (double)time.tv_sec * 1e3 + (double)time.tv_nsec / 1e6;
}

static lua_State *check(lua_State *state, int code) {
  if (code == 0) return state;
  fprintf(stderr, "drop: %s\n", state != NULL ? lua_tostring(state, -1) : "no state");
  exit(1);
}

int main(int count, char **arguments) {
  const char *way = count > 1 ? arguments[1] : "drop";
  const long objects = count > 2 ? atol(arguments[2]) : 5000000;
  lua_State *state = NULL;
  if (strcmp(way, "plain") == 0) {
    state = luaL_newstate();
    check(state, state == NULL);
  } else {
    check(state, mirt_lua_newstate(NULL, &state));
  }
  luaL_openlibs(state);
  check(state, luaL_loadstring(state, text));
  lua_pushinteger(state, objects / 5);
  check(state, lua_pcall(state, 1, 0, 0));
  const double start = now();
  if (strcmp(way, "drop") == 0) {
    mirt_lua_drop(state);
  } else {
    lua_close(state);
  }
  printf("%.3f\n", now() - start);
  return 0;
}
