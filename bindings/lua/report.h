/* report.h - the table that --heap-report writes.
 *
 * Invariant: it is written once, however the program ends: by the end of its script, an
 * error, or os.exit; and while all objects are still there.
 *
 * Copyright (c) 2026 the mirt authors. SPDX-License-Identifier: MIT
 */
#ifndef MIRT_LUA_REPORT_H
#define MIRT_LUA_REPORT_H

#include <lua.h>

/* From now on the end of the process, or of the state, writes the report. May raise an
 * error, for want of memory. */
void report_begin(lua_State *state);

/* Write it now, if it was begun and not yet written. */
void report_write(void);

#endif
