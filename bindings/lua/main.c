/* main.c - mirt-lua: runs scripts as lua5.4 does, on the memory of mirt.
 *
 * Copyright (c) 2026 the mirt authors. SPDX-License-Identifier: MIT
 */
#include <errno.h>
#include <lauxlib.h>
#include <lualib.h>
#include <mirt/lua.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "console.h"
#include "options.h"
#include "report.h"

#define EXIT_USAGE 2

#define INIT_VARIABLE "LUA_INIT"
#define INIT_VARIABLE_OF_VERSION INIT_VARIABLE "_" LUA_VERSION_MAJOR "_" LUA_VERSION_MINOR

/* The table arg: the script has number 0, what comes before it negative ones. */
static void make_arg_table(lua_State *state, const struct options *options) {
  const int script = options->script < options->count ? options->script : 0;
  lua_createtable(state, options->count - script, script);
  for (int i = 0; i < options->count; i++) {
    lua_pushstring(state, options->arguments[i]);
    lua_rawseti(state, -2, i - script);
  }
  lua_setglobal(state, "arg");
}

/* Run what the environment asks for: text, or @ and the name of a file. */
static int run_initial(lua_State *state) {
  const char *name = "=" INIT_VARIABLE_OF_VERSION;
  const char *text = getenv(name + 1);
  if (text == NULL) {
    name = "=" INIT_VARIABLE;
    text = getenv(name + 1);
  }
  if (text == NULL) return LUA_OK;
  return console_run(state, text[0] == '@'
                                ? luaL_loadfile(state, text + 1)
                                : luaL_loadbuffer(state, text, strlen(text), name));
}

/* Require a module into the global of its name, or of the name before a '='. */
static int require_module(lua_State *state, const char *text) {
  const char *equals = strchr(text, '=');
  const char *module = equals == NULL ? text : equals + 1;
  if (equals == NULL) {
    lua_pushstring(state, text);
  } else {
    lua_pushlstring(state, text, (size_t)(equals - text));
  }
  lua_getglobal(state, "require");
  lua_pushstring(state, module);
  const int status = console_call(state, 1, 1);
  if (status == LUA_OK) {
    lua_setglobal(state, lua_tostring(state, -2));
  } else {
    console_report(state, status);
  }
  lua_pop(state, 1); /* the name */
  return status;
}

/* Do what -e, -l and -W say, in their order. */
static int run_options(lua_State *state, const struct options *options) {
  int position = 0;
  const char *value;
  for (char letter; (letter = options_next(options, &position, &value)) != 0;) {
    int status = LUA_OK;
    if (letter == 'W') {
      lua_warning(state, "@on", 0);
    } else if (letter == 'l') {
      status = require_module(state, value);
    } else {
      status = console_run(
          state, luaL_loadbuffer(state, value, strlen(value), "=(command line)"));
    }
    if (status != LUA_OK) return status;
  }
  return LUA_OK;
}

/* Push what the table arg has from 1 on; the program may have changed it. */
static int push_arguments(lua_State *state) {
  if (lua_getglobal(state, "arg") != LUA_TTABLE)
    luaL_error(state, "'arg' is not a table");
  const int count = (int)luaL_len(state, -1);
  luaL_checkstack(state, count + 3, "too many arguments to script");
  for (int i = 1; i <= count; i++) lua_rawgeti(state, -i, i);
  lua_remove(state, -count - 1);
  return count;
}

static int run_script(lua_State *state, const struct options *options) {
  const char *name = options->arguments[options->script];
  const bool is_input = strcmp(name, "-") == 0 &&
                        strcmp(options->arguments[options->script - 1], "--") != 0;
  int status = luaL_loadfile(state, is_input ? NULL : name);
  if (status == LUA_OK) {
    const int count = push_arguments(state);
    status = console_call(state, count, LUA_MULTRET);
  }
  return console_report(state, status);
}

/* All that is done in the state, in protected mode. Returns true if nothing went wrong.
 * */
static int run(lua_State *state) {
  const struct options *options = lua_touserdata(state, 1);
  luaL_checkversion(state);
  if (options->reports) report_begin(state);
  if (options->shows_version) {
    lua_writestring(LUA_COPYRIGHT, strlen(LUA_COPYRIGHT));
    lua_writeline();
  }
  if (options->ignores_environment) {
    lua_pushboolean(state, 1);
    lua_setfield(state, LUA_REGISTRYINDEX, "LUA_NOENV"); /* for the library of modules */
  }
  luaL_openlibs(state);
  make_arg_table(state, options);
  lua_gc(state, LUA_GCGEN, 0, 0);
  if (!options->ignores_environment && run_initial(state) != LUA_OK) return 0;
  if (run_options(state, options) != LUA_OK) return 0;
  const bool has_script = options->script < options->count;
  if (has_script && run_script(state, options) != LUA_OK) return 0;
  const bool has_work = has_script || options->has_statement || options->shows_version;
  if (options->is_interactive) {
    console_converse(state);
  } else if (!has_work && isatty(STDIN_FILENO)) {
    lua_writestring(LUA_COPYRIGHT, strlen(LUA_COPYRIGHT));
    lua_writeline();
    console_converse(state);
  } else if (!has_work) {
    console_run(state, luaL_loadfile(state, NULL));
  }
  lua_pushboolean(state, 1);
  return 1;
}

static int refuse(const char *wrong, const char *culprit) {
  fprintf(stderr, "mirt-lua: ");
  fprintf(stderr, wrong, culprit);
  fprintf(stderr, "\n%s", usage_text);
  return EXIT_USAGE;
}

int main(int count, char **arguments) {
  struct options options;
  const char *culprit = NULL;
  const char *wrong = options_read(&options, count, arguments, &culprit);
  console_set_name(count > 0 && arguments[0][0] != '\0' ? arguments[0] : "mirt-lua");
  if (wrong != NULL) return refuse(wrong, culprit);
  if (options.wants_help) return fputs(usage_text, stdout) < 0;
  if (options.wants_version) {
    printf("mirt-lua %s, with %s\n", MIRT_VERSION, LUA_RELEASE);
    return EXIT_SUCCESS;
  }
  lua_State *state;
  const mirt_lua_options_t memory = {.limit = options.limit};
  if (mirt_lua_newstate(&memory, &state) != 0) {
    console_complain("cannot create state: not enough memory");
    return EXIT_FAILURE;
  }
  lua_pushcfunction(state, run);
  lua_pushlightuserdata(state, &options);
  const int status = lua_pcall(state, 1, 1, 0);
  const bool is_fine = lua_toboolean(state, -1);
  console_report(state, status);
  report_write();
  if (options.drops) {
    mirt_lua_drop(state);
  } else {
    mirt_lua_close(state);
  }
  return status == LUA_OK && is_fine ? EXIT_SUCCESS : EXIT_FAILURE;
}
