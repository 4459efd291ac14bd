/* main.c - threads that edit the same documents.
 *
 *   threads [-t threads] [-s seconds | -n operations] [-m markers] [-p] [-l] [-f]
 *
 *   -t  threads that edit, each with a mutator of its own (4)
 *   -s  for so many seconds (2)
 *   -n  instead: until each thread has done so many operations
 *   -m  threads that mark in a collection (1)
 *   -p  objects refer to each other by 64-bit pointers, not by 32-bit refs
 *   -l  sweep lazily
 *   -f  forget the roots of a thread when collecting: the program ends with an error
 *
 * The exit code is 1 when anything is not as it should be, 2 for wrong arguments.
 *
 * Copyright (c) 2026 the mirt authors. SPDX-License-Identifier: MIT
 */
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "world.h"

#define WAIT_EVERY 64 /* operations */
#define EDITS_MAX 4   /* of a document at once */

static struct {
  size_t threads, seconds, operations, markers; /* operations: 0 for no limit */
  bool has_pointers;
  time_t end;
} settings = {.threads = 4, .seconds = 2, .markers = 1};

/* What all threads have done: for what a thread waits for now and then. */
static struct {
  pthread_mutex_t mutex;
  size_t operations;
} progress = {.mutex = PTHREAD_MUTEX_INITIALIZER};

/* (xorshift64: Marsaglia 2003.) */
static size_t roll(worker_t *worker, size_t limit) {
  worker->random ^= worker->random << 13;
  worker->random ^= worker->random >> 7;
  worker->random ^= worker->random << 17;
  return (size_t)(worker->random % limit);
}

/* ---- documents ---- */

static object_t *text_new(worker_t *worker) {
  object_t *text = object_new(worker, TEXT, roll(worker, TEXT_MAX + 1));
  memset(text_bytes(text), 'a' + (int)roll(worker, 26), text->count);
  text->sum = object_sum(text);
  return text;
}

/* The slot of a node that leads to an entry. */
static size_t branch(size_t entry, uint32_t level) {
  for (uint32_t i = 1; i < level; i++) entry /= BRANCHES;
  return entry % BRANCHES;
}

/* The node of a level on the way to an entry, or for level 0 its text; may be NULL. */
static object_t *tree_at(object_t *tree, size_t entry, uint32_t level) {
  for (uint32_t i = LEVELS; i > level && tree != NULL; i--) {
    tree = slot_get(tree, branch(entry, i));
  }
  return tree;
}

/* A copy of a tree, or of an empty one, with something else in this place. The copies
 * become roots; the tree must be reachable from one. */
static object_t *tree_with(worker_t *worker, const object_t *tree, uint32_t top,
                           size_t entry, uint32_t level, object_t *other) {
  if (top == level) return other;
  const size_t i = branch(entry, top);
  const object_t *child = tree == NULL ? NULL : slot_get(tree, i);
  child = tree_with(worker, child, top - 1, entry, level, other);
  object_t *copy = object_new(worker, NODE, BRANCHES);
  copy->number = top;
  for (size_t j = 0; tree != NULL && j < BRANCHES; j++) {
    slot_set(copy, j, slot_get(tree, j));
  }
  slot_set(copy, i, child);
  copy->sum = object_sum(copy);
  return copy;
}

static object_t *tree_of(object_t *version) {
  return version == NULL ? NULL : slot_get(version, 0);
}

/* The newest version of a document, kept; may be NULL. */
static object_t *document(worker_t *worker, size_t number) {
  return root_push(worker, slot_load(world.table, number));
}

/* Make a tree the next version of a document. Returns false when another thread was first.
 * The version so far is a root, so no other object has come to lie at its address. */
static bool publish(worker_t *worker, size_t number, object_t *before, object_t *tree) {
  object_t *version = object_new(worker, VERSION, 2);
  version->number = before == NULL ? 1 : before->number + 1;
  slot_set(version, 0, tree);
  slot_set(version, 1, version->number % HISTORY == 0 ? NULL : before);
  version->sum = object_sum(version);
  return slot_compare_and_swap(world.table, number, before, version);
}

/* ---- operations ---- */

/* Write some texts, or cross them out. Until the new version is published only the roots
 * of this thread lead to what is new. */
static bool edit(worker_t *worker) {
  const size_t number = roll(worker, DOCUMENTS);
  object_t *before = document(worker, number);
  object_t *tree = tree_of(before);
  for (size_t left = 1 + roll(worker, EDITS_MAX); left > 0; left--) {
    object_t *text = roll(worker, 4) == 0 ? NULL : text_new(worker);
    tree = tree_with(worker, tree, LEVELS, roll(worker, ENTRIES), 0, text);
  }
  return publish(worker, number, before, tree);
}

/* Put a text, or several at once, into another place, of whichever document. */
static bool copy(worker_t *worker) {
  const uint32_t level = (uint32_t)roll(worker, LEVELS);
  const size_t number = roll(worker, DOCUMENTS), entry = roll(worker, ENTRIES);
  object_t *source = document(worker, roll(worker, DOCUMENTS));
  object_t *before = document(worker, number);
  object_t *what = tree_at(tree_of(source), roll(worker, ENTRIES), level);
  object_t *tree = tree_with(worker, tree_of(before), LEVELS, entry, level, what);
  return publish(worker, number, before, tree);
}

/* Go back to the version before. */
static bool undo(worker_t *worker) {
  const size_t number = roll(worker, DOCUMENTS);
  object_t *before = document(worker, number);
  if (before == NULL || slot_get(before, 1) == NULL) return true;
  return publish(worker, number, before, tree_of(slot_get(before, 1)));
}

/* Read some texts. */
static bool read_some(worker_t *worker) {
  object_t *version = document(worker, roll(worker, DOCUMENTS));
  for (int i = 0; i < BRANCHES; i++) {
    const object_t *text = tree_at(tree_of(version), roll(worker, ENTRIES), 0);
    check(text == NULL || (text->kind == TEXT && text->sum == object_sum(text)));
  }
  return true;
}

static bool operate(worker_t *worker) {
  switch (roll(worker, 8)) {
    case 0: return undo(worker);
    case 1: return copy(worker);
    case 2: return read_some(worker);
    default: return edit(worker);
  }
}

/* ---- threads ---- */

/* Something that may block, so this thread must count as stopped meanwhile: else a thread
 * that collects would wait for this one, which waits for a third. */
static void tell_progress(worker_t *worker) {
  mirt_safepoint_leave(world.safepoint);
  pthread_mutex_lock(&progress.mutex);
  progress.operations += WAIT_EVERY;
  pthread_mutex_unlock(&progress.mutex);
  mirt_safepoint_enter(world.safepoint);
  worker->waits++;
}

static bool goes_on(worker_t *worker) {
  if (settings.operations != 0) return worker->operations < settings.operations;
  return worker->operations % WAIT_EVERY != 0 || time(NULL) < settings.end;
}

/* Attached first and detached last: a mutator may be made, bound or destroyed only while
 * nobody collects. */
static void worker_begin(worker_t *worker) {
  mirt_safepoint_attach(world.safepoint);
  worker->mutator = mirt_mutator_create_in(heap.runtime);
  check(worker->mutator != NULL && mirt_mutator_bind(worker->mutator) == 0);
}

static void worker_end(worker_t *worker) {
  worker->root_count = 0;
  check(mirt_mutator_unbind(worker->mutator) == 0);
  check(mirt_mutator_destroy(worker->mutator) == 0);
  worker->mutator = NULL;
  mirt_safepoint_detach(world.safepoint);
}

static void *worker_main(void *argument) {
  worker_t *worker = argument;
  worker_begin(worker);
  while (goes_on(worker)) {
    while (!operate(worker)) {
      worker->retries++;
      worker->root_count = 0;
    }
    worker->root_count = 0;
    mirt_safepoint_poll(world.safepoint);
    if (++worker->operations % WAIT_EVERY == 0) tell_progress(worker);
  }
  worker_end(worker);
  return NULL;
}

/* The main thread made the table, and stays attached. While it waits for the others, they
 * must not wait for it. */
static void run_workers(void) {
  mirt_safepoint_leave(world.safepoint);
  for (size_t i = 0; i < settings.threads; i++) {
    worker_t *worker = &world.workers[i];
    worker->random = (i + 1) * 0x9e3779b97f4a7c15u;
    check(pthread_create(&worker->thread, NULL, worker_main, worker) == 0);
  }
  for (size_t i = 0; i < settings.threads; i++) {
    check(pthread_join(world.workers[i].thread, NULL) == 0);
  }
  mirt_safepoint_enter(world.safepoint);
}

/* ---- the program ---- */

static void print_summary(size_t live) {
  size_t operations = 0, retries = 0, waits = 0;
  for (size_t i = 0; i < settings.threads; i++) {
    operations += world.workers[i].operations;
    retries += world.workers[i].retries;
    waits += world.workers[i].waits;
  }
  check(progress.operations == waits * WAIT_EVERY);
  printf("%zu threads, %s: %zu operations, %zu tried again\n", settings.threads,
         heap.cage != NULL ? "refs" : "pointers", operations, retries);
  printf("%zu collections: %zu objects freed, %zu KiB; longest pause %.2f ms\n",
         world.collections, world.freed_objects, world.freed_bytes / 1024,
         (double)world.longest_pause / 1e6);
  printf("%zu objects checked, %zu live at the end\n", world.checked_objects, live);
}

static void usage(void) {
  fprintf(stderr, "usage: threads [-t threads] [-s seconds | -n operations] "
                  "[-m markers] [-p] [-l] [-f]\n");
  exit(2);
}

static size_t number_in(const char *text, size_t least, size_t most) {
  char *end;
  const unsigned long value = strtoul(text, &end, 10);
  if (end == text || *end != 0 || value < least || value > most) usage();
  return value;
}

static void read_arguments(int count, char **arguments) {
  for (int option; (option = getopt(count, arguments, "t:s:n:m:plf")) != -1;) {
    switch (option) {
      case 't': settings.threads = number_in(optarg, 1, WORKERS_MAX); break;
      case 's': settings.seconds = number_in(optarg, 0, 1000000); break;
      case 'n': settings.operations = number_in(optarg, 1, 1000000000); break;
      case 'm': settings.markers = number_in(optarg, 1, MIRT_MARKERS_MAX); break;
      case 'p': settings.has_pointers = true; break;
      case 'l': world.gc.is_lazy = true; break;
      case 'f': world.forgets_roots = true; break;
      default: usage();
    }
  }
  if (optind != count) usage();
}

int main(int argc, char **argv) {
  read_arguments(argc, argv);
  world.gc.markers = (unsigned)settings.markers;
  settings.end = time(NULL) + (time_t)settings.seconds;
  heap_begin(!settings.has_pointers, SOFT_LEAST, HARD_LIMIT, world_on_soft_limit);
  world.safepoint = mirt_safepoint_create();
  check(world.safepoint != NULL);
  worker_t *self = &world.workers[WORKERS_MAX];
  worker_begin(self);
  world.table = object_new(self, TABLE, DOCUMENTS);
  self->root_count = 0;
  run_workers();

  /* The threads have ended, and what they made is still there: the documents; and a text
   * that only a root of this thread leads to. */
  text_new(self);
  check(mirt_safepoint_request(world.safepoint));
  const size_t live = world_collect();
  self->root_count = 0;
  world.table = NULL;
  check(world_collect() == 0);
  mirt_safepoint_resume(world.safepoint);
  print_summary(live);

  worker_end(self);
  check(mirt_safepoint_destroy(world.safepoint) == 0);
  check(mirt_runtime_destroy(heap.runtime) == 0);
  return fflush(stdout) == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
