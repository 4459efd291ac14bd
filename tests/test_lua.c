/* test_lua.c - states of Lua on mirt: which tag each kind of object lands in, limits,
 * dropping, many states, states on several threads, an error at every single allocation,
 * options that are wrong.
 */
#include "test.h"

#include <lauxlib.h>
#include <lualib.h>
#include <mirt.h>
#include <mirt/lua.h>

/* Tags of the tests' own, so that what is left behind by one does not disturb another. */
#define TAGS(number) (20000 + (number)*MIRT_LUA_KINDS)

/* ---- helpers ---- */

static lua_State *state_with(const mirt_lua_options_t *options) {
  lua_State *state = NULL;
  ck_assert_int_eq(mirt_lua_newstate(options, &state), 0);
  ck_assert_ptr_nonnull(state);
  return state;
}

/* Run a text; the test fails if it does. */
static void run(lua_State *state, const char *text) {
  if (luaL_dostring(state, text) != LUA_OK) ck_abort_msg("%s", lua_tostring(state, -1));
}

/* Run a text that has to fail with this in its message. */
static void run_badly(lua_State *state, const char *text, const char *message) {
  ck_assert_int_ne(luaL_dostring(state, text), LUA_OK);
  const char *got = lua_tostring(state, -1);
  ck_assert_ptr_nonnull(got);
  ck_assert_msg(strstr(got, message) != NULL, "%s", got);
  lua_settop(state, 0);
}

static mirt_lua_stats_t stats_of(lua_State *state) {
  mirt_lua_stats_t stats;
  ck_assert_int_eq(mirt_lua_stats(state, &stats), 0);
  return stats;
}

static size_t tag_blocks(int tag) {
  mirt_stats_t stats;
  ck_assert(mirt_stats_tag(tag, &stats));
  return stats.live_blocks;
}

/* Live blocks under all tags of a state. */
static size_t tags_blocks(int first_tag) {
  size_t blocks = 0;
  for (int kind = 0; kind < MIRT_LUA_KINDS; kind++)
    blocks += tag_blocks(first_tag + kind);
  return blocks;
}

static size_t bytes_by_lua(lua_State *state) {
  return (size_t)lua_gc(state, LUA_GCCOUNT) * 1024 + (size_t)lua_gc(state, LUA_GCCOUNTB);
}

/* Heaps and pages of the process, when the thread holds nothing that it does not need. */
struct census {
  int64_t owners, heaps, pages;
};

static struct census census_now(void) {
  mi_collect(true);
  const mi_stats_t now = stats_now();
  return (struct census){now.threads.current, now.heaps.current, now.pages.current};
}

#define assert_census(before) \
  do { \
    const struct census now = census_now(); \
    ck_assert_int_eq(now.owners, (before).owners); \
    ck_assert_int_eq(now.heaps, (before).heaps); \
    ck_assert_int_eq(now.pages, (before).pages); \
  } while (0)

/* A text that makes some of everything, and needs the libraries. */
static const char everything[] =
    "local t = setmetatable({}, {__mode = 'k'})\n"
    "for i = 1, 200 do t[{}] = ('x'):rep(i) .. i end\n"
    "local co = coroutine.wrap(function() for i = 1, 9 do coroutine.yield({i}) end end)\n"
    "for i = 1, 9 do assert(co()[1] == i) end\n"
    "local f = assert(load('local a = ... return function() a = a + 1 return a end'))\n"
    "assert(f(41)() == 42)\n"
    "local u = setmetatable({}, {__gc = function() end, __close = function() end})\n"
    "do local v <close> = u end\n"
    "assert(table.concat({('ab'):gsub('b', 'c')}) == 'ac1')\n"
    "assert(string.format('%s %5.2f', 'x', 1) == 'x  1.00')\n"
    "table.sort({3, 2, 1}); collectgarbage(); assert(#tostring(io.stdout) > 0)\n";

/* ---- kinds ---- */

/* What the value on top of the stack lies in. */
static int tag_at_top(lua_State *state) { return mirt_tag_of(lua_topointer(state, -1)); }

START_TEST(objects_land_in_their_tags) {
  const int tag = TAGS(0);
  lua_State *state = state_with(&(mirt_lua_options_t){.first_tag = tag});
  lua_pushliteral(state, "a string");
  ck_assert_int_eq(tag_at_top(state), tag + MIRT_LUA_STRINGS);
  for (int i = 0; i < 6; i++) lua_concat(state, (lua_pushvalue(state, -1), 2));
  ck_assert_uint_gt(lua_rawlen(state, -1),
                    40); /* strings of this size are made differently */
  ck_assert_int_eq(tag_at_top(state), tag + MIRT_LUA_STRINGS);
  lua_newtable(state);
  ck_assert_int_eq(tag_at_top(state), tag + MIRT_LUA_TABLES);
  lua_newuserdatauv(state, 100, 1);
  ck_assert_int_eq(mirt_tag_of(lua_touserdata(state, -1)), tag + MIRT_LUA_USERDATA);
  lua_newthread(state);
  ck_assert_int_eq(tag_at_top(state), tag + MIRT_LUA_THREADS);
  ck_assert_int_eq(mirt_tag_of(state), tag + MIRT_LUA_THREADS);
  run(state, "local n = 0 return function() n = n + 1 end");
  ck_assert_int_eq(tag_at_top(state), tag + MIRT_LUA_FUNCTIONS);
  ck_assert_int_eq(mirt_tag_of(lua_upvalueid(state, -1, 1)), tag + MIRT_LUA_UPVALUES);
  lua_pushinteger(state, 1);
  lua_pushcclosure(state, (lua_CFunction)(void (*)(void))abort, 1);
  ck_assert_int_eq(mirt_tag_of(lua_upvalueid(state, -1, 1)), tag + MIRT_LUA_FUNCTIONS);
  mirt_lua_close(state);
  ck_assert_uint_eq(tags_blocks(tag), 0);
  assert_no_errors();
}
END_TEST

/* By how many a piece of Lua raises the live blocks of each kind. */
START_TEST(numbers_are_by_kind) {
  lua_State *state = state_with(NULL);
  luaL_openlibs(state);
  run(state, "collectgarbage() collectgarbage('stop') kept = {}");
  const mirt_lua_stats_t before = stats_of(state);
  run(state, "local kept = kept for i = 1, 1000 do kept[i] = {} end");
  const mirt_lua_stats_t tables = stats_of(state);
  /* One is the compiler's. */
  ck_assert_uint_eq(tables.kinds[MIRT_LUA_TABLES].live_blocks,
                    before.kinds[MIRT_LUA_TABLES].live_blocks + 1001);
  run(state, "for i = 1, 500 do kept[i] = function() return i end end");
  const mirt_lua_stats_t closures = stats_of(state);
  ck_assert_uint_ge(closures.kinds[MIRT_LUA_FUNCTIONS].live_blocks,
                    tables.kinds[MIRT_LUA_FUNCTIONS].live_blocks + 500);
  ck_assert_uint_ge(closures.kinds[MIRT_LUA_UPVALUES].live_blocks,
                    tables.kinds[MIRT_LUA_UPVALUES].live_blocks + 500);
  ck_assert_uint_gt(closures.kinds[MIRT_LUA_PROTOTYPES].live_blocks,
                    tables.kinds[MIRT_LUA_PROTOTYPES].live_blocks);
  run(state, "for i = 1, 300 do kept[i] = coroutine.create(print) end");
  const mirt_lua_stats_t threads = stats_of(state);
  ck_assert_uint_eq(threads.kinds[MIRT_LUA_THREADS].live_blocks,
                    closures.kinds[MIRT_LUA_THREADS].live_blocks + 300);
  mirt_stats_t sum = {0};
  for (int kind = 0; kind < MIRT_LUA_KINDS; kind++) {
    sum.live_blocks += threads.kinds[kind].live_blocks;
    sum.live_bytes += threads.kinds[kind].live_bytes;
    sum.pages += threads.kinds[kind].pages;
  }
  ck_assert_uint_eq(sum.live_blocks, threads.total.live_blocks);
  ck_assert_uint_eq(sum.live_bytes, threads.total.live_bytes);
  ck_assert_uint_eq(sum.pages, threads.total.pages);
  ck_assert_uint_ge(threads.total.live_bytes, threads.used);
  mirt_lua_close(state);
  assert_no_errors();
}
END_TEST

START_TEST(kinds_have_names) {
  for (int kind = 0; kind < MIRT_LUA_KINDS; kind++) {
    const char *name = mirt_lua_kind_name((mirt_lua_kind_t)kind);
    ck_assert_uint_le(strlen(name), 10);
    ck_assert_str_ne(name, "unknown");
  }
  ck_assert_str_eq(mirt_lua_kind_name(MIRT_LUA_KINDS), "unknown");
  ck_assert_str_eq(mirt_lua_kind_name((mirt_lua_kind_t)-1), "unknown");
}
END_TEST

/* The allocation function itself, as a C library may call it. */
START_TEST(blocks_keep_their_tag_when_they_move) {
  const int tag = TAGS(1);
  lua_State *state = state_with(&(mirt_lua_options_t){.first_tag = tag});
  void *data;
  const lua_Alloc allocate = lua_getallocf(state, &data);
  const size_t sizes[] = {24, 100, 90, 3000, 200000, 199000, 5000, 40, 1};
  static const int kinds[] = {MIRT_LUA_BUFFERS,   MIRT_LUA_BUFFERS,   MIRT_LUA_BUFFERS,
                              MIRT_LUA_BUFFERS,   MIRT_LUA_STRINGS,   MIRT_LUA_TABLES,
                              MIRT_LUA_FUNCTIONS, MIRT_LUA_USERDATA,  MIRT_LUA_THREADS,
                              MIRT_LUA_UPVALUES,  MIRT_LUA_PROTOTYPES};
  for (size_t type = 0; type < 40; type++) {
    const int kind = type < sizeof kinds / sizeof kinds[0] ? kinds[type] : 0;
    const size_t used = stats_of(state).used;
    unsigned char *block = allocate(data, NULL, type, 10);
    ck_assert_ptr_nonnull(block);
    size_t old_size = 10;
    memset(block, (int)type, 10);
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
      block = allocate(data, block, old_size, sizes[i]);
      ck_assert_ptr_nonnull(block);
      ck_assert_int_eq(mirt_tag_of(block), tag + kind);
      ck_assert_uint_eq(stats_of(state).used, used + sizes[i]);
      ck_assert(bytes_are(block, old_size < sizes[i] ? old_size : sizes[i],
                          (unsigned char)type));
      memset(block, (int)type, sizes[i]);
      old_size = sizes[i];
    }
    ck_assert_ptr_null(allocate(data, block, old_size, 0));
    ck_assert_uint_eq(stats_of(state).used, used);
  }
  ck_assert_ptr_null(allocate(data, NULL, 0, 0));
  assert_no_errors();
  const size_t used = stats_of(state).used;
  ck_assert_ptr_null(allocate(data, NULL, 0, SIZE_MAX));
  ck_assert_ptr_null(allocate(data, NULL, 0, (size_t)PTRDIFF_MAX + 1));
  ck_assert_uint_eq(stats_of(state).used, used);
  assert_errors(ENOMEM, 2);
  mirt_lua_close(state);
}
END_TEST

START_TEST(accounting_agrees_with_lua) {
  lua_State *state = state_with(NULL);
  ck_assert_uint_eq(stats_of(state).used, bytes_by_lua(state));
  luaL_openlibs(state);
  run(state, everything);
  ck_assert_uint_eq(stats_of(state).used, bytes_by_lua(state));
  lua_gc(state, LUA_GCCOLLECT);
  ck_assert_uint_eq(stats_of(state).used, bytes_by_lua(state));
  mirt_lua_close(state);
  assert_no_errors();
}
END_TEST

/* ---- limits ---- */

START_TEST(limit_raises_an_error) {
  lua_State *state = state_with(&(mirt_lua_options_t){.limit = 1 << 20});
  luaL_openlibs(state);
  run_badly(state, "local t = {} for i = 1, 1e8 do t[i] = {} end", "not enough memory");
  ck_assert_uint_le(stats_of(state).used, 1 << 20);
  run_badly(state, "return ('x'):rep(1 << 30)", "not enough memory");
  /* What is garbage makes room: Lua collects before it gives up. */
  run(state,
      "collectgarbage('stop') for i = 1, 100 do local s = ('x'):rep(1 << 17) .. i end");
  run(state, everything);
  ck_assert_uint_le(stats_of(state).used, 1 << 20);
  mirt_lua_close(state);
  assert_no_errors(); /* a limit is no error of mirt's */
}
END_TEST

START_TEST(limit_is_set_later) {
  lua_State *state = state_with(NULL);
  luaL_openlibs(state);
  run(state, "kept = ('x'):rep(1 << 20)");
  ck_assert_uint_eq(stats_of(state).limit, 0);
  ck_assert_int_eq(mirt_lua_set_limit(state, 1 << 19), 0); /* below what there is */
  ck_assert_uint_eq(stats_of(state).limit, 1 << 19);
  ck_assert_int_eq(luaL_loadstring(state, "kept = nil collectgarbage()"), LUA_ERRMEM);
  lua_settop(state, 0);
  ck_assert_int_eq(mirt_lua_set_limit(state, 0), 0);
  run(state, "kept = nil collectgarbage()");
  ck_assert_int_eq(mirt_lua_set_limit(state, 1 << 19), 0);
  run(state, everything);
  run_badly(state, "return ('x'):rep(1 << 20)", "not enough memory");
  ck_assert_int_eq(mirt_lua_set_limit(state, 1 << 22), 0);
  run(state, "return ('x'):rep(1 << 20)");
  mirt_lua_close(state);
  assert_no_errors();
}
END_TEST

/* Below the limit nothing shrinks into failure, whatever the limit is. */
START_TEST(shrinking_never_fails) {
  lua_State *state = state_with(NULL);
  void *data;
  const lua_Alloc allocate = lua_getallocf(state, &data);
  char *block = allocate(data, NULL, 0, 100000);
  ck_assert_int_eq(mirt_lua_set_limit(state, 1), 0);
  ck_assert_ptr_null(allocate(data, block, 100000, 100001));
  ck_assert_ptr_null(allocate(data, NULL, 0, 1));
  for (size_t size = 100000; size > 1; size /= 3) {
    block = allocate(data, block, size, size / 3 + 1);
    ck_assert_ptr_nonnull(block);
    block = allocate(data, block, size / 3 + 1, size / 3);
    ck_assert_ptr_nonnull(block);
  }
  allocate(data, block, 1, 0);
  mirt_lua_close(state);
  assert_no_errors();
}
END_TEST

/* ---- ends ---- */

static int finalized;

static int on_finalize(lua_State *state) {
  (void)state;
  finalized++;
  return 0;
}

static void add_finalizer(lua_State *state) {
  finalized = 0;
  lua_newuserdatauv(state, 8, 0);
  lua_newtable(state);
  lua_pushcfunction(state, on_finalize);
  lua_setfield(state, -2, "__gc");
  lua_setmetatable(state, -2);
  lua_setglobal(state, "finalized_at_end");
}

/* Loop test: mirt_lua_close, lua_close, mirt_lua_drop, the latter two from a coroutine;
 * with and without a mutator of its own. */
START_TEST(nothing_is_left) {
  const bool has_mutator = _i % 2 == 1;
  const int way = _i / 2;
  const int tag = TAGS(2);
  mi_free(mi_malloc(1)); /* the thread has its heap */
  const struct census before = census_now();
  lua_State *state =
      state_with(&(mirt_lua_options_t){.first_tag = tag, .own_mutator = has_mutator});
  if (has_mutator) ck_assert_int_eq(mirt_lua_enter(state), 0);
  luaL_openlibs(state);
  run(state, "kept = {} for i = 1, 20000 do kept[i] = {i, 'x' .. i} end");
  run(state, "kept[0] = ('x'):rep(1 << 20)");
  add_finalizer(state);
  lua_State *coroutine = lua_newthread(state);
  ck_assert_uint_gt(tags_blocks(tag), 60000);
  switch (way) {
    case 0: ck_assert_int_eq(mirt_lua_close(state), 0); break;
    case 1: lua_close(coroutine); break;
    default: ck_assert_int_eq(mirt_lua_drop(coroutine), 0); break;
  }
  ck_assert_int_eq(finalized, way == 2 ? 0 : 1);
  ck_assert_uint_eq(tags_blocks(tag), 0);
  ck_assert_ptr_null(mirt_mutator_current());
  assert_census(before);
  assert_no_errors();
}
END_TEST

START_TEST(null_ends_as_well) {
  ck_assert_int_eq(mirt_lua_close(NULL), 0);
  ck_assert_int_eq(mirt_lua_drop(NULL), 0);
}
END_TEST

/* ---- many states ---- */

START_TEST(many_states) {
  enum { STATES = 50 };
  const struct census before = census_now();
  lua_State *states[STATES];
  for (int i = 0; i < STATES; i++) {
    /* Every other has tags of its own. */
    states[i] =
        state_with(&(mirt_lua_options_t){.first_tag = i % 2 == 0 ? 0 : TAGS(10 + i)});
    luaL_openlibs(states[i]);
    lua_pushinteger(states[i], i);
    lua_setglobal(states[i], "number");
    run(states[i], "kept = {} for i = 1, 100 do kept[i] = number .. ' ' .. i end");
  }
  for (int i = 0; i < STATES; i += 3) {
    ck_assert_int_eq(i % 2 == 0 ? mirt_lua_close(states[i]) : mirt_lua_drop(states[i]),
                     0);
    states[i] = NULL;
  }
  for (int i = 0; i < STATES; i++) {
    if (states[i] == NULL) continue;
    run(states[i], everything);
    run(states[i], "for i = 1, 100 do assert(kept[i] == number .. ' ' .. i) end");
    ck_assert_int_eq(mirt_lua_close(states[i]), 0);
  }
  assert_census(before);
  assert_no_errors();
}
END_TEST

START_TEST(states_in_arenas) {
  mi_arena_id_t arena;
  ck_assert_int_eq(mi_reserve_os_memory_ex(8 << 20, false, false, true, &arena), 0);
  lua_State *state = state_with(&(mirt_lua_options_t){.arena = arena});
  luaL_openlibs(state);
  size_t size;
  const char *start = mi_arena_area(arena, &size);
  const char *address = (const char *)state;
  ck_assert(address >= start && address < start + size);
  errors_clear();
  run_badly(state, "local t = {} for i = 1, 1e8 do t[i] = {} end", "not enough memory");
  ck_assert_uint_gt(errors_of(ENOMEM), 0); /* this is one of mirt's */
  errors_clear();
  run(state, everything);
  ck_assert_int_eq(mirt_lua_drop(state), 0);
  ck_assert_int_eq(mirt_arena_destroy(arena), 0);
  assert_no_errors();
}
END_TEST

START_TEST(sealed_tags) {
  const int tag = TAGS(3);
  for (int round = 0; round < 2; round++) {
    lua_State *state =
        state_with(&(mirt_lua_options_t){.first_tag = tag, .sealed = true});
    for (int kind = 0; kind < MIRT_LUA_KINDS; kind++) {
      ck_assert(mirt_tag_is_sealed(tag + kind));
    }
    luaL_openlibs(state);
    run(state, everything);
    mirt_lua_drop(state);
  }
  assert_no_errors();
}
END_TEST

/* ---- threads ---- */

struct turns {
  lua_State **states;
  int count;
  atomic_word *is_taken; /* of each state */
};

/* Whatever state is free takes a step, on whatever thread. */
static void *take_turns(void *argument) {
  struct turns *turns = argument;
  for (int turn = 0; turn < 60; turn++) {
    const int i = (turn * 7 + (int)((uintptr_t)argument / sizeof *turns)) % turns->count;
    if (!atomic_compare_and_swap_full(&turns->is_taken[i], 0, 1)) continue;
    lua_State *state = turns->states[i];
    if (mirt_lua_enter(state) != 0) abort();
    if (luaL_dostring(state, everything) != LUA_OK) abort();
    if (luaL_dostring(
            state, "steps = (steps or 0) + 1 "
                   "for i = 1, 200 do kept[(steps * 31 + i) % 500] = {'x' .. i} end")) {
      abort();
    }
    if (mirt_lua_leave(state) != 0) abort();
    atomic_store_release(&turns->is_taken[i], 0);
  }
  return NULL;
}

START_TEST(states_move_between_threads) {
  enum { STATES = 6, THREADS = 4 };
  const struct census before = census_now();
  lua_State *states[STATES];
  static atomic_word is_taken[STATES];
  for (int i = 0; i < STATES; i++) {
    states[i] =
        state_with(&(mirt_lua_options_t){.own_mutator = true, .check_thread = true});
    ck_assert_int_eq(mirt_lua_enter(states[i]), 0);
    luaL_openlibs(states[i]);
    run(states[i], "kept = {}");
    ck_assert_int_eq(mirt_lua_leave(states[i]), 0);
  }
  struct turns turns[THREADS];
  for (int i = 0; i < THREADS; i++) turns[i] = (struct turns){states, STATES, is_taken};
  threads_run(THREADS, take_turns, turns, sizeof turns[0]);
  for (int i = 0; i < STATES; i++) {
    ck_assert_uint_gt(stats_of(states[i]).total.live_blocks,
                      0); /* where it is not entered */
    ck_assert_int_eq(i % 2 == 0 ? mirt_lua_close(states[i]) : mirt_lua_drop(states[i]),
                     0);
  }
  assert_census(before);
  assert_no_errors();
}
END_TEST

static void *try_from_elsewhere(void *argument) {
  lua_State *state = argument;
  mirt_lua_stats_t stats;
  if (mirt_lua_enter(state) != EINVAL) abort(); /* it has no mutator */
  if (mirt_lua_stats(state, &stats) != EPERM) abort();
  if (mirt_lua_close(state) != EPERM) abort();
  if (mirt_lua_drop(state) != EPERM) abort();
  if (luaL_loadstring(state, "return {}") != LUA_ERRMEM) abort(); /* check_thread */
  lua_settop(state, 0);
  void *data;
  const lua_Alloc allocate = lua_getallocf(state, &data);
  if (allocate(data, NULL, 0, 100) != NULL) abort();
  return NULL;
}

START_TEST(state_of_a_thread_stays_there) {
  lua_State *state = state_with(&(mirt_lua_options_t){.check_thread = true});
  luaL_openlibs(state);
  thread_run(try_from_elsewhere, state);
  mirt_mutator_t *mutator = mirt_mutator_create();
  ck_assert_int_eq(mirt_mutator_bind(mutator), 0);
  ck_assert_int_eq(mirt_lua_close(state), EPERM); /* another owner, the same thread */
  ck_assert_int_eq(mirt_mutator_unbind(mutator), 0);
  mirt_mutator_destroy(mutator);
  run(state, everything);
  ck_assert_int_eq(mirt_lua_close(state), 0);
  assert_no_errors();
}
END_TEST

struct parcel {
  lua_Alloc allocate;
  void *data, *block;
};

static void *free_elsewhere(void *argument) {
  const struct parcel *parcel = argument;
  parcel->allocate(parcel->data, parcel->block, 1000, 0);
  return NULL;
}

START_TEST(frees_come_from_anywhere) {
  lua_State *state = state_with(&(mirt_lua_options_t){.check_thread = true});
  struct parcel parcel;
  parcel.allocate = lua_getallocf(state, &parcel.data);
  const size_t used = stats_of(state).used;
  parcel.block = parcel.allocate(parcel.data, NULL, 0, 1000);
  ck_assert_uint_eq(stats_of(state).used, used + 1000);
  thread_run(free_elsewhere, &parcel);
  ck_assert_uint_eq(stats_of(state).used, used);
  mirt_lua_close(state);
  assert_no_errors();
}
END_TEST

static void *enter_in_vain(void *argument) {
  mirt_lua_stats_t stats;
  if (mirt_lua_enter(argument) != EBUSY) abort();
  if (mirt_lua_leave(argument) != EPERM) abort();
  if (mirt_lua_stats(argument, &stats) != EBUSY) abort();
  if (mirt_lua_close(argument) != EBUSY) abort();
  if (mirt_lua_drop(argument) != EBUSY) abort();
  return NULL;
}

START_TEST(entering_is_for_one) {
  lua_State *first = state_with(&(mirt_lua_options_t){.own_mutator = true});
  lua_State *second = state_with(&(mirt_lua_options_t){.own_mutator = true});
  ck_assert_int_eq(mirt_lua_leave(first), EPERM);
  ck_assert_int_eq(mirt_lua_enter(first), 0);
  ck_assert_int_eq(mirt_lua_enter(first), EBUSY);
  errors_clear();
  thread_run(enter_in_vain, first);
  ck_assert_int_eq(mirt_lua_enter(second), 0);
  ck_assert_int_eq(mirt_lua_leave(first), EPERM); /* not the last */
  ck_assert_int_eq(mirt_lua_close(first), EBUSY);
  ck_assert_int_eq(mirt_lua_leave(second), 0);
  ck_assert_int_eq(mirt_lua_leave(first), 0);
  ck_assert_int_eq(mirt_lua_close(first), 0);
  ck_assert_int_eq(mirt_lua_close(second), 0);
  lua_State *plain = state_with(NULL);
  ck_assert_int_eq(mirt_lua_enter(plain), EINVAL);
  ck_assert_int_eq(mirt_lua_leave(plain), EINVAL);
  ck_assert_int_eq(mirt_lua_close(plain), 0);
}
END_TEST

/* ---- an error at every allocation ---- */

/* In the place of a state's allocation function: the allocation of number 0 fails, and so
 * do all after it until Lua has given up. */
struct failing {
  lua_Alloc allocate;
  void *data;
  long left; /* allocations that succeed */
};

static void *fail_sometimes(void *data, void *block, size_t old_size, size_t size) {
  struct failing *failing = data;
  const bool grows = size != 0 && (block == NULL || size > old_size);
  if (grows && failing->left-- <= 0) return NULL;
  return failing->allocate(failing->data, block, old_size, size);
}

START_TEST(error_at_every_allocation) {
  const int tag = TAGS(4);
  const long step = TEST_HAS_SHADOW ? 23 : 1;
  long failures = 0;
  for (long number = 0;; number += step) {
    lua_State *state = state_with(&(mirt_lua_options_t){.first_tag = tag});
    luaL_openlibs(state);
    struct failing failing = {.left = number};
    failing.allocate = lua_getallocf(state, &failing.data);
    lua_setallocf(state, fail_sometimes, &failing);
    const int status = luaL_dostring(state, everything);
    lua_setallocf(state, failing.allocate, failing.data);
    if (status != LUA_OK) failures++;
    lua_settop(state, 0);
    assert_quick(stats_of(state).used == bytes_by_lua(state));
    run(state, everything); /* nothing is broken */
    assert_quick(mirt_lua_close(state) == 0);
    assert_quick(tags_blocks(tag) == 0);
    if (status == LUA_OK) break;
  }
  ck_assert_int_ge(failures, TEST_HAS_SHADOW ? 10 : 200);
  assert_no_errors();
}
END_TEST

/* The same while the state and its libraries are made, where only a limit can do it. */
static int open_libraries(lua_State *state) {
  luaL_openlibs(state);
  return 0;
}

START_TEST(error_at_every_limit) {
  const struct census before = census_now();
  size_t refused = 0, failed = 0;
  for (size_t limit = 1;; limit += TEST_HAS_SHADOW ? 199 : 37) {
    lua_State *state = (lua_State *)1;
    const int code = mirt_lua_newstate(&(mirt_lua_options_t){.limit = limit}, &state);
    if (code != 0) {
      assert_quick(code == ENOMEM && state == NULL);
      refused++;
      continue;
    }
    lua_pushcfunction(state, open_libraries);
    const int status = lua_pcall(state, 0, 0, 0);
    assert_quick(status == LUA_OK || status == LUA_ERRMEM);
    assert_quick(stats_of(state).used <= limit);
    assert_quick(mirt_lua_close(state) == 0);
    if (status == LUA_OK) break;
    failed++;
  }
  ck_assert_uint_gt(refused, 10);
  ck_assert_uint_gt(failed, 10);
  assert_census(before);
  assert_no_errors();
}
END_TEST

/* ---- mistakes ---- */

START_TEST(wrong_options) {
  const struct census before = census_now();
  lua_State *state = (lua_State *)1;
  ck_assert_int_eq(mirt_lua_newstate(NULL, NULL), EINVAL);
  const int tags[] = {-1, INT32_MIN, MIRT_TAG_MAX + 2 - MIRT_LUA_KINDS, INT32_MAX};
  for (size_t i = 0; i < sizeof tags / sizeof tags[0]; i++) {
    state = (lua_State *)1;
    const mirt_lua_options_t options = {.first_tag = tags[i], .sealed = true};
    ck_assert_int_eq(mirt_lua_newstate(&options, &state), EINVAL);
    ck_assert_ptr_null(state);
  }
  for (int own = 0; own < 2; own++) {
    const mirt_lua_options_t options = {.arena = 12345, .own_mutator = own == 1};
    ck_assert_int_eq(mirt_lua_newstate(&options, &state), EINVAL);
    ck_assert_ptr_null(state);
  }
  const int last = MIRT_TAG_MAX + 1 - MIRT_LUA_KINDS; /* this one is right */
  state = state_with(&(mirt_lua_options_t){.first_tag = last});
  ck_assert_int_eq(mirt_lua_close(state), 0);
  const mirt_lua_options_t used = {.first_tag = last, .sealed = true};
  ck_assert_int_eq(mirt_lua_newstate(&used, &state), EBUSY);
  ck_assert_ptr_null(state);
  ck_assert_ptr_null(mirt_mutator_current());
  assert_census(before);
}
END_TEST

static void *allocate_by_malloc(void *data, void *block, size_t old_size, size_t size) {
  (void)data, (void)old_size;
  if (size != 0) return realloc(block, size);
  free(block);
  return NULL;
}

START_TEST(foreign_states_are_refused) {
  mirt_lua_stats_t stats;
  lua_State *state = lua_newstate(allocate_by_malloc, NULL);
  ck_assert(!mirt_lua_is_state(state) && !mirt_lua_is_state(NULL));
  ck_assert_int_eq(mirt_lua_close(state), EINVAL);
  ck_assert_int_eq(mirt_lua_drop(state), EINVAL);
  ck_assert_int_eq(mirt_lua_enter(state), EINVAL);
  ck_assert_int_eq(mirt_lua_leave(state), EINVAL);
  ck_assert_int_eq(mirt_lua_set_limit(state, 1), EINVAL);
  ck_assert_int_eq(mirt_lua_stats(state, &stats), EINVAL);
  ck_assert_int_eq(mirt_lua_stats(NULL, &stats), EINVAL);
  lua_close(state);
  state = state_with(NULL);
  ck_assert(mirt_lua_is_state(state));
  ck_assert_int_eq(mirt_lua_stats(state, NULL), EINVAL);
  mirt_lua_close(state);
  assert_no_errors();
}
END_TEST

/* Another allocation function in between is asked for by lua_setallocf, and taken out
 * again; or it stays, and lua_close ends the state. */
START_TEST(wrapped_states) {
  const int tag = TAGS(5);
  lua_State *state = state_with(&(mirt_lua_options_t){.first_tag = tag});
  struct failing wrapper = {.left = 1L << 40};
  wrapper.allocate = lua_getallocf(state, &wrapper.data);
  lua_setallocf(state, fail_sometimes, &wrapper);
  ck_assert_int_eq(mirt_lua_close(state), EINVAL);
  luaL_openlibs(state);
  run(state, everything);
  ck_assert_int_lt(wrapper.left, 1L << 40);
  lua_close(state);
  ck_assert_uint_eq(tags_blocks(tag), 0);
  assert_no_errors();
}
END_TEST

/* ---- what is said ---- */

static void panic_in_child(void *argument) {
  (void)argument;
  lua_State *state = state_with(NULL);
  lua_pushliteral(state, "no protection");
  lua_error(state);
}

/* Run f in a child; what it writes to standard error is left in text. Returns its status.
 * */
static int child_says(void (*f)(void *), char *text, size_t size) {
  FILE *file = tmpfile();
  const int saved = dup(STDERR_FILENO);
  ck_assert(file != NULL && dup2(fileno(file), STDERR_FILENO) >= 0);
  const int status = child_run(f, NULL);
  ck_assert_int_ge(dup2(saved, STDERR_FILENO), 0);
  rewind(file);
  text[fread(text, 1, size - 1, file)] = '\0';
  fclose(file);
  close(saved);
  return status;
}

START_TEST(panic_says_why) {
  char text[1000];
  const int status = child_says(panic_in_child, text, sizeof text);
  ck_assert(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
  ck_assert_str_eq(text, "PANIC: unprotected error in call to Lua API (no protection)\n");
}
END_TEST

static void warn_in_child(void *argument) {
  (void)argument;
  lua_State *state = state_with(NULL);
  luaL_openlibs(state);
  run(state, "warn('unheard') warn('@on') warn('a', 'b') warn('@what') warn('@o', 'n') "
             "warn('@off') warn('unheard')");
  mirt_lua_close(state);
}

START_TEST(warnings) {
  char text[1000];
  ck_assert_int_eq(child_says(warn_in_child, text, sizeof text), 0);
  ck_assert_str_eq(text, "Lua warning: ab\nLua warning: @on\n");
}
END_TEST

/* ---- main ---- */

int main(void) {
  mi_option_set(mi_option_max_errors, -1);
  Suite *suite = suite_create("lua");
  TCase *c = case_begin(suite, "kinds");
  tcase_add_test(c, objects_land_in_their_tags);
  tcase_add_test(c, numbers_are_by_kind);
  tcase_add_test(c, kinds_have_names);
  tcase_add_test(c, blocks_keep_their_tag_when_they_move);
  tcase_add_test(c, accounting_agrees_with_lua);
  c = case_begin(suite, "limits");
  tcase_add_test(c, limit_raises_an_error);
  tcase_add_test(c, limit_is_set_later);
  tcase_add_test(c, shrinking_never_fails);
  c = case_begin(suite, "ends");
  tcase_add_loop_test(c, nothing_is_left, 0, 6);
  tcase_add_test(c, null_ends_as_well);
  c = case_begin(suite, "many");
  tcase_add_test(c, many_states);
  tcase_add_test(c, states_in_arenas);
  tcase_add_test(c, sealed_tags);
  c = case_begin(suite, "threads");
  tcase_add_test(c, states_move_between_threads);
  tcase_add_test(c, state_of_a_thread_stays_there);
  tcase_add_test(c, frees_come_from_anywhere);
  tcase_add_test(c, entering_is_for_one);
  c = case_begin(suite, "errors");
  tcase_add_test(c, error_at_every_allocation);
  tcase_add_test(c, error_at_every_limit);
  c = case_begin(suite, "mistakes");
  tcase_add_test(c, wrong_options);
  tcase_add_test(c, foreign_states_are_refused);
  tcase_add_test(c, wrapped_states);
  c = case_begin(suite, "what is said");
  tcase_add_test(c, panic_says_why);
  tcase_add_test(c, warnings);
  return suite_run(suite);
}
