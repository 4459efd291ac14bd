/* console.h - running pieces of Lua, and telling what went wrong.
 *
 * Invariant: whatever a piece raises ends as one message on standard error, with a
 * traceback if it was a string; the stack of the state is then as before. An interrupt of
 * the terminal ends the piece that runs, as an error.
 *
 * Copyright (c) 2026 the mirt authors. SPDX-License-Identifier: MIT
 */
#ifndef MIRT_LUA_CONSOLE_H
#define MIRT_LUA_CONSOLE_H

#include <lua.h>

/* The name that messages begin with; NULL for none. */
void console_set_name(const char *name);

/* Write a message to standard error. */
void console_complain(const char *message);

/* Call the function below its arguments on the stack, in protected mode, with a
 * traceback. Returns the status; results, or the message, are in its place. */
int console_call(lua_State *state, int arguments, int results);

/* If status is an error's, write the message on top of the stack, and take it off.
 * Returns status. */
int console_report(lua_State *state, int status);

/* Run what was just loaded with this status, without arguments and results. Returns the
 * status. */
int console_run(lua_State *state, int status);

/* Read statements and expressions from standard input until it ends, run each, and print
 * what it gives. Prompts are the globals _PROMPT and _PROMPT2. */
void console_converse(lua_State *state);

#endif
