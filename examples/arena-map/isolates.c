/* isolates.c - several isolates in one process, and the map of their memory.
 *
 * An isolate is a part of a runtime that shares nothing with the others: a worker, a
 * plugin, a browser tab. Here each has an arena of its own, which the others cannot use
 * up, and in it a heap with a tag of its own for each type of objects, so that a string
 * never comes to lie where code was. At the end it goes away as a whole.
 *
 *   isolates | mirt-arena-map -o map.svg
 *
 * Copyright (c) 2026 the mirt authors. SPDX-License-Identifier: MIT
 */
#include <mirt.h>
#include <stdio.h>
#include <stdlib.h>

#define ARENA_SIZE ((size_t)32 << 20)
#define OBJECTS_MAX 131072

/* The types of objects. Their numbers are the tags of their heaps. */
typedef enum type_e { STRING = 1, PAIR, CLOSURE, CODE, VECTOR, TYPE_END } type_t;

/* How many of ten thousand objects are of a type, and how many bytes they have. */
static const struct {
  unsigned share;
  size_t size_min, size_max;
} types[TYPE_END] = {
    [STRING] = {2500, 16, 400},    /* names and lines */
    [PAIR] = {5996, 32, 32},       /* a header and two values, always */
    [CLOSURE] = {1400, 48, 96},    /* with some variables */
    [CODE] = {100, 500, 12000},    /* of a function */
    [VECTOR] = {4, 20000, 300000}, /* few, and large */
};

typedef struct object_s {
  void *memory; /* NULL once freed */
  type_t type;
} object_t;

typedef struct isolate_s {
  mi_arena_id_t arena;
  mirt_cage_t *cage; /* whose arena it is, or NULL */
  mi_heap_t *heaps[TYPE_END];
  object_t objects[OBJECTS_MAX]; /* the oldest first */
  size_t count;
} isolate_t;

static _Noreturn void fail(const char *what) {
  fprintf(stderr, "isolates: %s\n", what);
  exit(EXIT_FAILURE);
}

/* From 0 to limit - 1, the same numbers in every run. */
static unsigned random_below(unsigned limit) {
  static uint64_t state = 1;
  state = state * 6364136223846793005u + 1442695040888963407u;
  return (unsigned)(state >> 33) % limit;
}

/* ---- An isolate -------------------------------------------------------------------- */

typedef enum arena_kind_e { ON_DEMAND, COMMITTED, CAGED } arena_kind_t;

static isolate_t *isolate_new(arena_kind_t kind) {
  isolate_t *isolate = mi_zalloc(sizeof *isolate);
  if (isolate == NULL) fail("no memory for an isolate");
  if (kind == CAGED) {
    const mirt_cage_options_t options = {.size = ARENA_SIZE};
    if (mirt_cage_create(&options, &isolate->cage) != 0) fail("no cage");
    isolate->arena = isolate->cage->arena;
  } else {
    const bool commit = kind == COMMITTED;
    if (mi_reserve_os_memory_ex(ARENA_SIZE, commit, false, true, &isolate->arena) != 0)
      fail("no arena");
  }
  for (int type = STRING; type < TYPE_END; type++) {
    isolate->heaps[type] = mi_heap_new_ex(type, true, isolate->arena);
    if (isolate->heaps[type] == NULL) fail("no heap");
  }
  return isolate;
}

static object_t random_object(const isolate_t *isolate) {
  unsigned choice = random_below(10000);
  type_t type = STRING;
  while (choice >= types[type].share) choice -= types[type++].share;
  /* Small ones are more frequent. */
  const size_t span = types[type].size_max - types[type].size_min;
  const size_t size =
      types[type].size_min + span * random_below(101) * random_below(101) / 10000;
  void *memory = mi_heap_malloc(isolate->heaps[type], size);
  if (memory == NULL) fail("an arena is full");
  return (object_t){memory, type};
}

/* Make some objects more. */
static void isolate_work(isolate_t *isolate, size_t count) {
  if (count > OBJECTS_MAX - isolate->count) fail("too many objects");
  for (; count > 0; count--) isolate->objects[isolate->count++] = random_object(isolate);
}

/* Free so many in a hundred of the objects from first to end - 1. */
static void isolate_free(isolate_t *isolate, size_t first, size_t end, unsigned percent) {
  for (size_t i = first; i < end; i++) {
    if (random_below(100) >= percent) continue;
    mi_free(isolate->objects[i].memory);
    isolate->objects[i].memory = NULL;
  }
}

/* No objects of this type will be made any more; those that there are live on. */
static void isolate_give_up_heap(isolate_t *isolate, type_t type) {
  mi_heap_delete(isolate->heaps[type]);
  isolate->heaps[type] = NULL;
}

/* The heaps go with all their objects; what outlived its heap is freed one by one. */
static void isolate_end(isolate_t *isolate) {
  for (size_t i = 0; i < isolate->count; i++) {
    const object_t object = isolate->objects[i];
    if (isolate->heaps[object.type] == NULL) mi_free(object.memory);
  }
  for (int type = STRING; type < TYPE_END; type++) mi_heap_destroy(isolate->heaps[type]);
  const int error = isolate->cage != NULL ? mirt_cage_destroy(isolate->cage)
                                          : mirt_arena_destroy(isolate->arena);
  if (error != 0) fail("an arena is still in use");
  mi_free(isolate);
}

/* ---- The program ------------------------------------------------------------------- */

static void print(const char *text, void *file) { fputs(text, file); }

int main(void) {
  /* One that has been busy, and keeps everything. */
  isolate_t *busy = isolate_new(ON_DEMAND);
  isolate_work(busy, 130000);

  /* One with a past: of its older objects few are left. */
  isolate_t *old = isolate_new(ON_DEMAND);
  isolate_work(old, 120000);
  isolate_free(old, 0, 100000, 99);

  /* One whose compiler has been dropped, and whose code still runs. */
  isolate_t *compiled = isolate_new(COMMITTED);
  isolate_work(compiled, 80000);
  isolate_give_up_heap(compiled, CODE);

  /* A young one, with references of 32 bits. */
  isolate_t *young = isolate_new(CAGED);
  isolate_work(young, 10000);

  /* Memory that is free by now goes back to the system; what is freed later waits. */
  mi_collect(true);
  isolate_free(busy, 40000, 80000, 100);
  mi_collect(false);

  if (mirt_arena_map(0, print, stdout) != 0) fail("no map");
  if (fflush(stdout) != 0 || ferror(stdout)) fail("cannot write the map");

  isolate_end(busy);
  isolate_end(old);
  isolate_end(compiled);
  isolate_end(young);
  return 0;
}
