/* console.c - running pieces of Lua, and the conversation with a terminal.
 *
 * Copyright (c) 2026 the mirt authors. SPDX-License-Identifier: MIT
 */
#include "console.h"

#include <lauxlib.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *program_name;

void console_set_name(const char *name) { program_name = name; }

void console_complain(const char *message) {
  if (program_name != NULL) fprintf(stderr, "%s: ", program_name);
  fprintf(stderr, "%s\n", message);
  fflush(stderr);
}

/* ---- protected calls ---- */

/* The state that an interrupt is meant for. */
static lua_State *running;

static void stop(lua_State *state, lua_Debug *activation) {
  (void)activation;
  lua_sethook(state, NULL, 0, 0);
  luaL_error(state, "interrupted!");
}

/* A handler of signals may do no more than ask Lua to stop at its next instruction; a
 * second interrupt ends the program. */
static void on_interrupt(int number) {
  signal(number, SIG_DFL);
  lua_sethook(running, stop, LUA_MASKCALL | LUA_MASKRET | LUA_MASKLINE | LUA_MASKCOUNT,
              1);
}

/* Turns what was raised into a message. */
static int explain(lua_State *state) {
  const char *message = lua_tostring(state, 1);
  if (message == NULL) {
    if (luaL_callmeta(state, 1, "__tostring") && lua_type(state, -1) == LUA_TSTRING) {
      return 1;
    }
    message =
        lua_pushfstring(state, "(error object is a %s value)", luaL_typename(state, 1));
  }
  luaL_traceback(state, state, message, 1);
  return 1;
}

int console_call(lua_State *state, int arguments, int results) {
  const int base = lua_gettop(state) - arguments;
  lua_pushcfunction(state, explain);
  lua_insert(state, base);
  running = state;
  signal(SIGINT, on_interrupt);
  const int status = lua_pcall(state, arguments, results, base);
  signal(SIGINT, SIG_DFL);
  lua_remove(state, base);
  return status;
}

int console_report(lua_State *state, int status) {
  if (status == LUA_OK) return status;
  const char *message = lua_tostring(state, -1);
  console_complain(message != NULL ? message : "(error message is not a string)");
  lua_pop(state, 1);
  return status;
}

int console_run(lua_State *state, int status) {
  if (status == LUA_OK) status = console_call(state, 0, 0);
  return console_report(state, status);
}

/* ---- the conversation ---- */

static void show_prompt(lua_State *state, bool is_first) {
  if (lua_getglobal(state, is_first ? "_PROMPT" : "_PROMPT2") == LUA_TNIL) {
    fputs(is_first ? "> " : ">> ", stdout);
  } else {
    fputs(luaL_tolstring(state, -1, NULL), stdout);
    lua_pop(state, 1);
  }
  lua_pop(state, 1);
  fflush(stdout);
}

/* Read a line and push it, without its end. Returns false when there is none. */
static bool push_line(lua_State *state, bool is_first) {
  char *line = NULL;
  size_t room = 0;
  show_prompt(state, is_first);
  ssize_t length = getline(&line, &room, stdin);
  if (length > 0) {
    if (line[length - 1] == '\n') length--;
    lua_pushlstring(state, line, (size_t)length);
  }
  free(line);
  return length >= 0;
}

static int load(lua_State *state, int index) {
  size_t length;
  const char *text = lua_tolstring(state, index, &length);
  return luaL_loadbuffer(state, text, length, "=stdin");
}

/* Does the text want more lines, by what Lua says of it? */
static bool is_incomplete(lua_State *state, int status) {
  if (status != LUA_ERRSYNTAX) return false;
  static const char mark[] = "<eof>";
  size_t length;
  const char *message = lua_tolstring(state, -1, &length);
  return length >= sizeof mark - 1 &&
         strcmp(message + length - (sizeof mark - 1), mark) == 0;
}

/* Read a piece and load it: an expression if it is one, else a statement of as many lines
 * as it takes. Only the function, or the message, is on the stack then. Returns its
 * status, or -1 when the input has ended. */
static int load_piece(lua_State *state) {
  lua_settop(state, 0);
  if (!push_line(state, true)) return -1;
  const char *line = lua_tostring(state, 1);
  lua_pushfstring(state, "return %s", line[0] == '=' ? line + 1 : line);
  int status = load(state, 2);
  if (status != LUA_OK) {
    lua_settop(state, 1);
    if (line[0] == '=') {
      lua_pushfstring(state, "return %s", line + 1);
      lua_replace(state, 1);
    }
    while (is_incomplete(state, status = load(state, 1))) {
      if (!push_line(state, false)) break;
      lua_remove(state, 2); /* the message */
      lua_pushliteral(state, "\n");
      lua_insert(state, 2);
      lua_concat(state, 3);
    }
  }
  lua_replace(state, 1);
  lua_settop(state, 1);
  return status;
}

/* Print all that is on the stack. */
static void print_results(lua_State *state) {
  const int count = lua_gettop(state);
  if (count == 0) return;
  luaL_checkstack(state, LUA_MINSTACK, "too many results to print");
  lua_getglobal(state, "print");
  lua_insert(state, 1);
  if (lua_pcall(state, count, 0, 0) == LUA_OK) return;
  console_complain(
      lua_pushfstring(state, "error calling 'print' (%s)", lua_tostring(state, -1)));
}

void console_converse(lua_State *state) {
  const char *name = program_name;
  console_set_name(NULL); /* who types knows whose messages these are */
  for (int status; (status = load_piece(state)) != -1;) {
    if (status == LUA_OK) status = console_call(state, 0, LUA_MULTRET);
    if (status == LUA_OK) {
      print_results(state);
    } else {
      console_report(state, status);
    }
  }
  lua_settop(state, 0);
  lua_writeline();
  console_set_name(name);
}
