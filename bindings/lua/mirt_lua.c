/* mirt_lua.c - a state of Lua over a heap per kind of object.
 *
 * What is noted about a state lies in its first heap. The last block that Lua frees is
 * the state itself; the allocation function knows it, and ends the heaps then. So
 * lua_close is all that it takes.
 *
 * Copyright (c) 2026 the mirt authors. SPDX-License-Identifier: MIT
 */
#include <mirt/lua.h>

#include <errno.h>
#include <lauxlib.h>
#include <mirt/mutator.h>
#include <mirt/tag.h>
#include <pthread.h>
#include <stdint.h>
#include <string.h>

#define likely(x) __builtin_expect(!!(x), 1)
#define unlikely(x) __builtin_expect(!!(x), 0)

/* What Lua says of a block that it asks for: the type of an object, two types that it
 * knows only inside, or something else. All below 16 find their heap without a test. */
#define TYPE_UPVALUE LUA_NUMTYPES
#define TYPE_PROTOTYPE (LUA_NUMTYPES + 1)
#define TYPES 16

static const unsigned char kind_of_type[TYPES] = {
    [LUA_TSTRING] = MIRT_LUA_STRINGS,       [LUA_TTABLE] = MIRT_LUA_TABLES,
    [LUA_TFUNCTION] = MIRT_LUA_FUNCTIONS,   [LUA_TUSERDATA] = MIRT_LUA_USERDATA,
    [LUA_TTHREAD] = MIRT_LUA_THREADS,       [TYPE_UPVALUE] = MIRT_LUA_UPVALUES,
    [TYPE_PROTOTYPE] = MIRT_LUA_PROTOTYPES,
};

/* A state's memory. */
struct memory {
  mi_heap_t *heap_of_type[TYPES];
  size_t used;  /* bytes, by the sizes that Lua asked for */
  size_t limit; /* SIZE_MAX: none */
  void *last;   /* the block that Lua frees last, or NULL while the state is being made */
  mi_heap_t *heaps[MIRT_LUA_KINDS];
  mirt_mutator_t *mutator; /* that the heaps belong to; NULL: the thread itself */
  pthread_t thread;        /* which one */
  bool mutator_is_own;
  bool warns;           /* warnings are on */
  bool warning_goes_on; /* the last piece of a warning said that more comes */
  int first_tag;
};

/* ---- a mutator of its own ---- */

/* Make a mutator and bind it. */
static int mutator_begin(void) {
  mirt_mutator_t *mutator = mirt_mutator_create();
  return mutator == NULL ? ENOMEM : mirt_mutator_bind(mutator);
}

/* Undo that. */
static void mutator_end(mirt_mutator_t *mutator) {
  mirt_mutator_unbind(mutator);
  mirt_mutator_destroy(mutator);
}

/* ---- the heaps ---- */

static void heaps_end(mi_heap_t *const heaps[MIRT_LUA_KINDS]) {
  for (int kind = MIRT_LUA_KINDS; kind-- > 0;) mi_heap_destroy(heaps[kind]);
}

/* The memory of a state goes, and what it is noted in with it. */
static void memory_end(const struct memory *memory) {
  mirt_mutator_t *own = memory->mutator_is_own ? memory->mutator : NULL;
  mi_heap_t *heaps[MIRT_LUA_KINDS];
  memcpy(heaps, memory->heaps, sizeof heaps);
  heaps_end(heaps);
  if (own != NULL) mutator_end(own);
}

/* Make the heaps and, in the first, the memory. Returns NULL with errno set. */
static struct memory *memory_new(const mirt_lua_options_t *options, int first_tag) {
  mi_heap_t *heaps[MIRT_LUA_KINDS] = {NULL};
  struct memory *memory = NULL;
  int kind = 0;
  while (kind < MIRT_LUA_KINDS) {
    heaps[kind] = mi_heap_new_ex(first_tag + kind, true, options->arena);
    if (heaps[kind] == NULL) break;
    kind++;
  }
  if (kind == MIRT_LUA_KINDS) memory = mi_heap_zalloc(heaps[0], sizeof *memory);
  if (memory == NULL) {
    const int code = errno;
    heaps_end(heaps);
    errno = code;
    return NULL;
  }
  memcpy(memory->heaps, heaps, sizeof heaps);
  for (int type = 0; type < TYPES; type++) {
    memory->heap_of_type[type] = heaps[kind_of_type[type]];
  }
  memory->limit = options->limit == 0 ? SIZE_MAX : options->limit;
  memory->mutator = mirt_mutator_current();
  memory->thread = pthread_self();
  memory->mutator_is_own = options->own_mutator;
  memory->first_tag = first_tag;
  return memory;
}

/* ---- the allocation function ---- */

/* Count so many bytes more, if they are not too many. A sum that wraps round is of a size
 * that no heap has either. */
static inline bool count_up(struct memory *memory, size_t bytes) {
  const size_t used = memory->used + bytes;
  if (unlikely(used > memory->limit)) return false;
  memory->used = used;
  return true;
}

/* The heap of a block: blocks keep their tag when they move. */
static mi_heap_t *heap_of_block(const struct memory *memory, const void *block) {
  const int kind = mirt_tag_of(block) - memory->first_tag;
  return memory->heaps[kind >= 0 && kind < MIRT_LUA_KINDS ? kind : MIRT_LUA_BUFFERS];
}

/* Small blocks come in multiples of 16 bytes. Lua tells the old size, so nobody has to
 * look at the block to see whether it fits. */
static inline bool is_same_step(size_t old_size, size_t size) {
  return (old_size + 15) / 16 == (size + 15) / 16;
}

static void *move_small(mi_heap_t *heap, void *block, size_t old_size, size_t size) {
  void *moved = mi_heap_malloc_small(heap, size);
  if (unlikely(moved == NULL)) return NULL;
  memcpy(moved, block, old_size < size ? old_size : size);
  mi_free(block);
  return moved;
}

static void *move(struct memory *memory, void *block, size_t old_size, size_t size) {
  if (is_same_step(old_size, size)) return block;
  mi_heap_t *heap = heap_of_block(memory, block);
  return old_size <= MI_SMALL_SIZE_MAX && size <= MI_SMALL_SIZE_MAX
             ? move_small(heap, block, old_size, size)
             : mi_heap_realloc(heap, block, size);
}

__attribute__((noinline)) static void *resize(struct memory *memory, void *block,
                                              size_t old_size, size_t size) {
  if (size > old_size && !count_up(memory, size - old_size)) return NULL;
  void *resized = move(memory, block, old_size, size);
  if (size > old_size) {
    if (unlikely(resized == NULL)) memory->used -= size - old_size;
    return resized;
  }
  /* Lua takes it for granted that what shrinks does not fail. */
  memory->used -= old_size - size;
  return unlikely(resized == NULL) ? block : resized;
}

/* All is freed: then the state is. */
__attribute__((noinline)) static void free_last(struct memory *memory, void *block) {
  const bool is_last = block == memory->last;
  mi_free(block);
  if (is_last) memory_end(memory);
}

static void *allocate(void *data, void *block, size_t old_size, size_t size) {
  struct memory *memory = data;
  if (block == NULL) {
    if (unlikely(size == 0 || !count_up(memory, size))) return NULL;
    const size_t type = likely(old_size < TYPES) ? old_size : 0;
    block = mi_heap_malloc(memory->heap_of_type[type], size);
    if (unlikely(block == NULL)) memory->used -= size;
    return block;
  }
  if (unlikely(size != 0)) return resize(memory, block, old_size, size);
  memory->used -= old_size;
  if (unlikely(memory->used == 0)) {
    free_last(memory, block);
  } else {
    mi_free(block);
  }
  return NULL;
}

/* Is the owner of the state's heaps the current one of the calling thread? */
static bool is_here(const struct memory *memory) {
  return mirt_mutator_current() == memory->mutator &&
         (memory->mutator != NULL || pthread_equal(pthread_self(), memory->thread));
}

static void *allocate_checked(void *data, void *block, size_t old_size, size_t size) {
  const struct memory *memory = data;
  if (size == 0 || is_here(memory)) return allocate(data, block, old_size, size);
  return block != NULL && size <= old_size ? block : NULL;
}

/* ---- what luaL_newstate adds ---- */

static int panic(lua_State *state) {
  const char *message = lua_tostring(state, -1);
  if (message == NULL) message = "error object is not a string";
  lua_writestringerror("PANIC: unprotected error in call to Lua API (%s)\n", message);
  return 0; /* and Lua aborts */
}

static void warn(void *data, const char *message, int more_comes) {
  struct memory *memory = data;
  const bool is_first = !memory->warning_goes_on;
  memory->warning_goes_on = more_comes != 0;
  if (is_first && !more_comes && message[0] == '@') {
    if (strcmp(message, "@on") == 0) memory->warns = true;
    if (strcmp(message, "@off") == 0) memory->warns = false;
    return;
  }
  if (!memory->warns) return;
  if (is_first) lua_writestringerror("%s", "Lua warning: ");
  lua_writestringerror("%s", message);
  if (!more_comes) lua_writestringerror("%s", "\n");
}

/* ---- making a state ---- */

static int seal_tags(int first_tag) {
  for (int kind = 0; kind < MIRT_LUA_KINDS; kind++) {
    const int code = mirt_tag_seal(first_tag + kind);
    if (code != 0) return code;
  }
  return 0;
}

static int make_state(const mirt_lua_options_t *options, int first_tag,
                      lua_State **state) {
  int code = options->own_mutator ? mutator_begin() : 0;
  if (code != 0) return code;
  struct memory *memory = memory_new(options, first_tag);
  if (memory == NULL) {
    code = errno;
    if (options->own_mutator) mutator_end(mirt_mutator_current());
    return code;
  }
  *state = lua_newstate(options->check_thread ? allocate_checked : allocate, memory);
  if (*state == NULL) {
    memory_end(memory);
    return ENOMEM;
  }
  memory->last = lua_getextraspace(*state); /* where the state's block begins */
  lua_atpanic(*state, panic);
  lua_setwarnf(*state, warn, memory);
  if (memory->mutator_is_own) mirt_mutator_unbind(memory->mutator);
  return 0;
}

int mirt_lua_newstate(const mirt_lua_options_t *options, lua_State **state) {
  static const mirt_lua_options_t defaults = {0};
  if (options == NULL) options = &defaults;
  if (state == NULL) return EINVAL;
  *state = NULL;
  const int first_tag = options->first_tag == 0 ? MIRT_LUA_FIRST_TAG : options->first_tag;
  if (first_tag < 0 || first_tag > MIRT_TAG_MAX + 1 - MIRT_LUA_KINDS) return EINVAL;
  const int code = options->sealed ? seal_tags(first_tag) : 0;
  return code != 0 ? code : make_state(options, first_tag, state);
}

/* ---- using one ---- */

static struct memory *memory_of(lua_State *state) {
  if (state == NULL) return NULL;
  void *data;
  const lua_Alloc function = lua_getallocf(state, &data);
  return function == allocate || function == allocate_checked ? data : NULL;
}

bool mirt_lua_is_state(lua_State *state) { return memory_of(state) != NULL; }

/* Come to the place of a state, if the calling thread is not there. Returns 0 or the
 * error code; has_come says whether to go again. */
static int come(const struct memory *memory, bool *has_come) {
  *has_come = false;
  if (memory == NULL) return EINVAL;
  if (is_here(memory)) return 0;
  if (!memory->mutator_is_own) return EPERM;
  *has_come = true;
  return mirt_mutator_bind(memory->mutator);
}

int mirt_lua_enter(lua_State *state) {
  const struct memory *memory = memory_of(state);
  if (memory == NULL || !memory->mutator_is_own) return EINVAL;
  return mirt_mutator_bind(memory->mutator);
}

int mirt_lua_leave(lua_State *state) {
  const struct memory *memory = memory_of(state);
  if (memory == NULL || !memory->mutator_is_own) return EINVAL;
  return mirt_mutator_unbind(memory->mutator);
}

/* End a state, its finalizers or not. */
static int end_state(lua_State *state, bool finalizes) {
  if (state == NULL) return 0;
  const struct memory *memory = memory_of(state);
  bool has_come;
  const int code = come(memory, &has_come);
  if (code != 0) return code;
  if (finalizes) {
    lua_close(
        state); /* which frees the state's block at last, and that ends the memory */
  } else {
    memory_end(memory);
  }
  return 0;
}

int mirt_lua_close(lua_State *state) { return end_state(state, true); }

int mirt_lua_drop(lua_State *state) { return end_state(state, false); }

int mirt_lua_set_limit(lua_State *state, size_t bytes) {
  struct memory *memory = memory_of(state);
  if (memory == NULL) return EINVAL;
  memory->limit = bytes == 0 ? SIZE_MAX : bytes;
  return 0;
}

/* ---- numbers ---- */

static void stats_add(mirt_stats_t *total, const mirt_stats_t *more) {
  total->live_blocks += more->live_blocks;
  total->live_bytes += more->live_bytes;
  total->pages += more->pages;
  total->committed += more->committed;
  total->peak += more->peak;
  total->abandoned += more->abandoned;
  total->adopted += more->adopted;
  total->address_space += more->address_space;
}

int mirt_lua_stats(lua_State *state, mirt_lua_stats_t *stats) {
  const struct memory *memory = memory_of(state);
  bool has_come;
  if (stats == NULL) return EINVAL;
  const int code = come(memory, &has_come);
  if (code != 0) return code;
  memset(stats, 0, sizeof *stats);
  stats->used = memory->used;
  stats->limit = memory->limit == SIZE_MAX ? 0 : memory->limit;
  stats->first_tag = memory->first_tag;
  for (int kind = 0; kind < MIRT_LUA_KINDS; kind++) {
    mirt_stats_heap(memory->heaps[kind], &stats->kinds[kind]);
    stats_add(&stats->total, &stats->kinds[kind]);
  }
  if (has_come) mirt_mutator_unbind(memory->mutator);
  return 0;
}

const char *mirt_lua_kind_name(mirt_lua_kind_t kind) {
  static const char *const names[MIRT_LUA_KINDS] = {
      [MIRT_LUA_BUFFERS] = "buffers",   [MIRT_LUA_STRINGS] = "strings",
      [MIRT_LUA_TABLES] = "tables",     [MIRT_LUA_FUNCTIONS] = "functions",
      [MIRT_LUA_USERDATA] = "userdata", [MIRT_LUA_THREADS] = "threads",
      [MIRT_LUA_UPVALUES] = "upvalues", [MIRT_LUA_PROTOTYPES] = "prototypes",
  };
  return (unsigned)kind < MIRT_LUA_KINDS ? names[kind] : "unknown";
}
