/* report.c - what each kind of object takes, as a table of at most 80 columns.
 *
 * Copyright (c) 2026 the mirt authors. SPDX-License-Identifier: MIT
 */
#include "report.h"

#include <lauxlib.h>
#include <mirt/lua.h>
#include <stdio.h>
#include <stdlib.h>

static lua_State *reported; /* NULL: nothing, or no longer */

static double mebibytes(size_t bytes) { return (double)bytes / (1 << 20); }

static void write_line(const char *name, const mirt_stats_t *stats, size_t all) {
  fprintf(stderr, "%-12s %12zu %14zu %8zu %14zu %8.1f%%\n", name, stats->live_blocks,
          stats->live_bytes, stats->pages, stats->committed,
          all == 0 ? 0 : 100 * (double)stats->live_bytes / (double)all);
}

void report_write(void) {
  mirt_lua_stats_t stats;
  if (reported == NULL) return;
  lua_State *state = reported;
  reported = NULL;
  if (mirt_lua_stats(state, &stats) != 0) return;
  fprintf(stderr, "heap: %.2f MiB used by Lua", mebibytes(stats.used));
  if (stats.limit != 0) fprintf(stderr, " of at most %.2f MiB", mebibytes(stats.limit));
  fprintf(stderr, ", tags from %d\n", stats.first_tag);
  fprintf(stderr, "%-12s %12s %14s %8s %14s %9s\n", "kind", "live", "bytes", "pages",
          "committed", "share");
  for (int kind = 0; kind < MIRT_LUA_KINDS; kind++) {
    write_line(mirt_lua_kind_name((mirt_lua_kind_t)kind), &stats.kinds[kind],
               stats.total.live_bytes);
  }
  write_line("total", &stats.total, stats.total.live_bytes);
  fflush(stderr);
}

static int on_close(lua_State *state) {
  (void)state;
  report_write();
  return 0;
}

/* lua_close calls finalizers in the opposite order of their making, so this object, made
 * before any other, goes last. */
void report_begin(lua_State *state) {
  lua_newuserdatauv(state, 0, 0);
  lua_createtable(state, 0, 1);
  lua_pushcfunction(state, on_close);
  lua_setfield(state, -2, "__gc");
  lua_setmetatable(state, -2);
  luaL_ref(state, LUA_REGISTRYINDEX);
  reported = state;
  atexit(report_write);
}
