/* test_gc.c - collections, against models: random graphs of objects of every kind of type
 * of which exactly what is reachable survives, marking when there is no memory for the
 * stacks, words that may be addresses, weak references and ephemerons, finalizers, the
 * steps of a collection with own threads, and stopping the world.
 */
#include "test.h"

#include <sched.h>

#include <mirt.h>

#include "arena/arena.h"
#include "heap/page.h"
#include "system.h"

#define COUNT_OF(array) (sizeof(array) / sizeof((array)[0]))

/* ---- helpers ---- */

/* For threads and finalizers, where Check does not hear of a failure: end the process. */
static _Noreturn void require_failed(int line, const char *text) {
  dprintf(STDERR_FILENO, "test_gc.c:%d: '%s' is false\n", line, text);
  abort();
}

#define require(x) \
  do { \
    if (!(x)) require_failed(__LINE__, #x); \
  } while (0)

static mirt_runtime_t *runtime_new(const mirt_cage_options_t *cage, size_t size) {
  mirt_runtime_t *runtime = NULL;
  const mirt_runtime_options_t options = {.cage = cage, .size = size};
  require(mirt_runtime_create(&options, &runtime) == 0);
  return runtime;
}

static mirt_runtime_t *runtime_plain(void) { return runtime_new(NULL, 512 * MiB); }

static mirt_type_t *type_with(mirt_runtime_t *runtime,
                              const mirt_type_options_t *options) {
  mirt_type_t *type = mirt_type_new(runtime, options);
  require(type != NULL);
  return type;
}

/* Objects of nothing but pointers. */
static mirt_type_t *type_of_slots(mirt_runtime_t *runtime, size_t count) {
  return type_with(runtime, &(mirt_type_options_t){
                                .size = count * 8, .slot_size = 8, .is_array = true});
}

static mirt_mutator_t *mutator_bound(mirt_runtime_t *runtime) {
  mirt_mutator_t *mutator = mirt_mutator_create_in(runtime);
  require(mutator != NULL);
  require(mirt_mutator_bind(mutator) == 0);
  return mutator;
}

static void runtime_end(mirt_runtime_t *runtime, mirt_mutator_t *mutator) {
  if (mutator != NULL) require(mirt_mutator_unbind(mutator) == 0);
  require(mirt_runtime_destroy(runtime) == 0);
}

static size_t live_bytes(const mirt_runtime_t *runtime) {
  mirt_runtime_stats_t stats;
  require(mirt_runtime_stats(runtime, &stats));
  return stats.live_bytes;
}

static bool is_object(const mirt_runtime_t *runtime, const void *p) {
  mirt_found_t found;
  return mirt_find(runtime, (uintptr_t)p, &found) && found.object == p;
}

/* Roots: an array of pointers that ends with NULL. */
static void mark_array(mirt_marker_t *marker, void *argument) {
  for (void **root = argument; *root != NULL; root++) mirt_mark(marker, *root);
}

static mirt_gc_stats_t collect(mirt_runtime_t *runtime, void **roots,
                               const mirt_gc_options_t *options) {
  static void *none[] = {NULL};
  mirt_gc_stats_t stats;
  require(mirt_collect(runtime, mark_array, roots == NULL ? none : roots, options,
                       &stats) == 0);
  return stats;
}

static bool page_has_no_mark(struct page *page, void *argument) {
  const size_t count = atomic_load_relaxed(&page->group_count);
  for (size_t i = 0; i < count; i++) {
    if (atomic_load_relaxed(&page_mark(page)[i]) != 0) *(bool *)argument = false;
  }
  return !page->needs_sweep;
}

/* Has a collection left no mark and nothing to sweep? */
static bool is_clean(const mirt_runtime_t *runtime) {
  bool has_no_mark = true;
  return pages_for_each_in(arena_of_id(mirt_runtime_arena(runtime)), page_has_no_mark,
                           &has_no_mark) &&
         has_no_mark;
}

/* Finish a lazy collection. */
static void sweep_rest(mirt_runtime_t *runtime) {
  while (mirt_gc_sweep(runtime, 1000) != 0) continue;
}

/* ---- random graphs ---- */

#define NODES 3000
#define EDGES 16
#define ROOTS 24

enum kind {
  MAP,          /* some words of a fixed size, between others that are none */
  ARRAY,        /* a fixed one */
  PREFIX_ARRAY, /* some words, and an array to the end; objects differ in size */
  TRACED,       /* by a function, that finds disguised words */
  DATA,         /* no slots */
  WIDE,         /* objects of hundreds of kilobytes, and some small ones */
  LONG_MAP,     /* of several words */
  LARGE_MAP,    /* a fixed size that no page of several objects has */
  KINDS
};

/* An object begins with its number in the model, and a word that looks like a
 * reference but is none. */
#define HEAD 16

struct node {
  char *p; /* NULL: there is none */
  enum kind kind;
  unsigned unit; /* bytes of a slot */
  size_t size, block;
  void *decoy;
  size_t edge_count;
  struct node *edges[EDGES];
  bool is_reached;
};

struct graph {
  mirt_runtime_t *runtime;
  const mirt_cage_t *cage;
  mirt_type_t *types[KINDS][2]; /* with pointers and, in a cage, with refs */
  mirt_mutator_t *mutators[3];
  unsigned bound;
  bool has_collected;
  struct dice dice;
  struct node nodes[NODES];
  struct node *roots[ROOTS];
  struct node *work[NODES];
};

static struct graph graph;

static void trace_disguised(mirt_marker_t *marker, void *object, size_t size, void *arg) {
  const uint64_t *words = object;
  require(arg == &graph);
  for (size_t i = HEAD / 8; i < size / 8; i++) {
    if (words[i] == 0) continue;
    const uint64_t word = ~words[i];
    if (graph.cage != NULL && i % 2 == 0) {
      mirt_mark_ref(marker, mirt_encode(graph.cage, (void *)(uintptr_t)word));
    } else {
      mirt_mark(marker, (void *)(uintptr_t)word);
    }
  }
}

#define LONG_SLOTS 230
#define LARGE_SIZE 150000

/* Where an edge is in a node. */
static size_t edge_offset(const struct node *node, size_t edge) {
  static const unsigned char mapped[] = {0, 2, 3, 5};
  switch (node->kind) {
    case MAP: return HEAD + mapped[edge] * node->unit;
    case PREFIX_ARRAY: return HEAD + (edge < 2 ? edge : edge + 2) * node->unit;
    case WIDE: {
      const size_t slots = (node->size - HEAD) / node->unit;
      return HEAD + (edge * slots / node->edge_count) * node->unit;
    }
    case LONG_MAP:
    case LARGE_MAP: return HEAD + edge * 13 * node->unit;
    default: return HEAD + edge * node->unit;
  }
}

/* The bits of a map: where the nodes of a kind have edges. */
static size_t make_map(enum kind kind, unsigned unit, uint64_t *map) {
  static const size_t counts[KINDS] = {
      [MAP] = 4, [PREFIX_ARRAY] = 2, [LONG_MAP] = EDGES, [LARGE_MAP] = EDGES};
  const struct node node = {.kind = kind, .unit = unit};
  size_t slots = 0;
  memset(map, 0, 5 * sizeof *map);
  for (size_t i = 0; i < counts[kind]; i++) {
    const size_t slot = edge_offset(&node, i) / unit;
    map[slot / 64] |= (uint64_t)1 << (slot % 64);
    slots = slot + 1;
  }
  /* Bits behind the last slot do not count. */
  if (slots % 64 != 0) map[slots / 64] |= UINT64_MAX << (slots % 64);
  return slots;
}

static void make_types(unsigned unit, int column) {
  mirt_type_options_t options[KINDS] = {
      [MAP] = {.size = HEAD + 6 * unit},
      [ARRAY] = {.size = HEAD + 5 * unit, .is_array = true, .array_offset = HEAD},
      [PREFIX_ARRAY] = {.size = HEAD + 4 * unit,
                        .is_variable = true,
                        .is_array = true,
                        .array_offset = HEAD + 4 * unit},
      [TRACED] = {.size = HEAD,
                  .is_variable = true,
                  .trace = trace_disguised,
                  .arg = &graph},
      [DATA] = {.size = 24},
      [WIDE] = {.size = HEAD,
                .is_variable = true,
                .is_array = true,
                .array_offset = HEAD},
      [LONG_MAP] = {.size = HEAD + LONG_SLOTS * unit},
      [LARGE_MAP] = {.size = LARGE_SIZE},
  };
  for (int kind = 0; kind < KINDS; kind++) {
    uint64_t map[5];
    mirt_type_options_t *o = &options[kind];
    o->map_slots = make_map((enum kind)kind, unit, map);
    o->map = o->map_slots == 0 ? NULL : map;
    if (kind != TRACED && kind != DATA) o->slot_size = unit;
    graph.types[kind][column] = type_with(graph.runtime, o);
  }
}

static void graph_begin(int number) {
  static const mirt_cage_options_t cages[] = {
      {0}, {.size = 512 * MiB, .shift = 3}, {.size = 512 * MiB, .signed_refs = true}};
  memset(&graph, 0, sizeof graph);
  graph.dice = dice_new(1000 + (uint64_t)number);
  graph.runtime = runtime_new(number == 0 ? NULL : &cages[number - 1], 512 * MiB);
  graph.cage = mirt_runtime_cage(graph.runtime);
  make_types(8, 0);
  if (graph.cage != NULL) make_types(4, 1);
  graph.mutators[0] = mutator_bound(graph.runtime);
}

static mirt_type_t *node_type(const struct node *node) {
  return graph.types[node->kind][node->unit == 4];
}

static size_t roll(size_t limit) { return dice_roll(&graph.dice, limit); }

/* Any node there is, or NULL. */
static struct node *any_node(void) {
  struct node *node = &graph.nodes[roll(NODES)];
  return node->p == NULL ? NULL : node;
}

static void write_slot(const struct node *node, size_t offset, const void *target) {
  char *slot = node->p + offset;
  if (node->unit == 4) {
    const mirt_ref_t ref = mirt_encode_nullable(graph.cage, target);
    memcpy(slot, &ref, sizeof ref);
  } else {
    const uint64_t word = target == NULL         ? 0
                          : node->kind == TRACED ? ~(uint64_t)(uintptr_t)target
                                                 : (uintptr_t)target;
    memcpy(slot, &word, sizeof word);
  }
}

static const void *read_slot(const struct node *node, size_t offset) {
  const char *slot = node->p + offset;
  if (node->unit == 4) {
    mirt_ref_t ref;
    memcpy(&ref, slot, sizeof ref);
    return mirt_decode_nullable(graph.cage, ref);
  }
  uint64_t word;
  memcpy(&word, slot, sizeof word);
  if (node->kind == TRACED && word != 0) word = ~word;
  return (const void *)(uintptr_t)word;
}

static void set_edge(struct node *node, size_t edge, struct node *target) {
  node->edges[edge] = target;
  write_slot(node, edge_offset(node, edge), target == NULL ? NULL : target->p);
}

/* Where there is no edge lies something that looks like one. */
static void fill_with_decoys(const struct node *node) {
  const size_t begin = node->kind == PREFIX_ARRAY ? HEAD + 2 * node->unit : HEAD;
  const size_t end = node->kind == PREFIX_ARRAY ? HEAD + 4 * node->unit : node->size;
  if (node->kind == ARRAY || node->kind == WIDE || node->kind == TRACED) return;
  for (size_t offset = begin; offset + node->unit <= end; offset += node->unit) {
    if (node->kind == LARGE_MAP && offset > 4096) break;
    write_slot(node, offset, node->decoy);
  }
}

static void choose_size(struct node *node) {
  const mirt_type_t *type = node_type(node);
  node->size = type->size;
  switch (node->kind) {
    case MAP: node->edge_count = 4; break;
    case ARRAY: node->edge_count = 5; break;
    case DATA: node->edge_count = 0; break;
    case PREFIX_ARRAY:
      node->edge_count = 2 + roll(EDGES - 1);
      node->size += (node->edge_count - 2) * node->unit;
      break;
    case TRACED:
      node->edge_count = roll(EDGES + 1);
      node->size += node->edge_count * node->unit;
      break;
    case WIDE:
      node->edge_count = 1 + roll(EDGES);
      node->size += node->unit * (roll(8) == 0 ? 2000 + roll(60000) : EDGES + roll(100));
      break;
    default: node->edge_count = EDGES;
  }
}

static void make_node(struct node *node) {
  node->kind = (enum kind)(roll(60) == 0 ? LARGE_MAP : roll(LARGE_MAP));
  node->unit = graph.cage != NULL && node->kind != TRACED && roll(2) == 0 ? 4 : 8;
  choose_size(node);
  const mirt_type_t *type = node_type(node);
  mirt_mutator_t *mutator = graph.mutators[graph.bound];
  const bool is_zero = roll(2) == 0 || node->size > 2000;
  if (type->block_size != 0) {
    node->p = is_zero ? mirt_new_zeroed(mutator, type) : mirt_new(mutator, type);
  } else {
    node->p = is_zero ? mirt_new_sized_zeroed(mutator, type, node->size)
                      : mirt_new_sized(mutator, type, node->size);
  }
  require(node->p != NULL);
  if (!is_zero) {
    memset(node->p, 0, node->size);
    if (node->kind == TRACED) { /* the function is given all of the block */
      mirt_found_t all;
      require(mirt_find(graph.runtime, (uintptr_t)node->p, &all));
      memset(node->p, 0, all.size);
    }
  }
  mirt_found_t found;
  require(mirt_find(graph.runtime, (uintptr_t)node->p, &found));
  require(found.object == node->p && found.size >= node->size && found.type == type);
  node->block = found.size;
  const struct node *decoy = any_node();
  node->decoy = decoy == NULL ? NULL : decoy->p;
  fill_with_decoys(node);
  const uint64_t number = (uint64_t)(node - graph.nodes);
  memcpy(node->p, &number, sizeof number);
  memcpy(node->p + 8, &node->decoy, sizeof node->decoy);
  for (size_t i = 0; i < node->edge_count; i++) set_edge(node, i, any_node());
}

/* Does the object hold what was written? */
static void check_node(const struct node *node) {
  uint64_t number;
  void *decoy;
  memcpy(&number, node->p, sizeof number);
  memcpy(&decoy, node->p + 8, sizeof decoy);
  require(number == (uint64_t)(node - graph.nodes));
  require(decoy == node->decoy);
  for (size_t i = 0; i < node->edge_count; i++) {
    const struct node *target = node->edges[i];
    require(read_slot(node, edge_offset(node, i)) == (target == NULL ? NULL : target->p));
  }
}

/* Find out which nodes are reachable. */
static void reach(void) {
  size_t top = 0;
  for (size_t i = 0; i < NODES; i++) graph.nodes[i].is_reached = false;
  for (size_t i = 0; i < ROOTS + top; i++) {
    struct node *root = i < ROOTS ? graph.roots[i] : NULL;
    if (root == NULL || root->is_reached) continue;
    root->is_reached = true;
    graph.work[top++] = root;
    while (top > 0) {
      struct node *node = graph.work[--top];
      for (size_t k = 0; k < node->edge_count; k++) {
        struct node *target = node->edges[k];
        if (target == NULL || target->is_reached) continue;
        target->is_reached = true;
        graph.work[top++] = target;
      }
    }
  }
}

static void mark_graph(mirt_marker_t *marker, void *argument) {
  require(argument == &graph);
  size_t first = 0;
  for (size_t i = 0; i < ROOTS; i++) {
    const struct node *root = graph.roots[i];
    if (root == NULL) {
      require(!mirt_mark(marker, NULL));
      continue;
    }
    bool is_first = true;
    for (size_t k = 0; k < i; k++) is_first = is_first && graph.roots[k] != root;
    const bool is_new = graph.cage != NULL && i % 2 == 0
                            ? mirt_mark_ref(marker, mirt_encode(graph.cage, root->p))
                            : mirt_mark(marker, root->p);
    require(is_new == is_first);
    require(mirt_is_marked(graph.runtime, root->p));
    first += is_first;
  }
  require(first <= ROOTS);
}

static void *delete_elsewhere(void *object) {
  mirt_delete(object);
  return NULL;
}

/* The program knows of some that they are dead. */
static void delete_some(void) {
  reach();
  for (int i = 0; i < 100; i++) {
    struct node *node = any_node();
    if (node == NULL || node->is_reached) continue;
    if (i % 20 == 0) {
      thread_run(delete_elsewhere, node->p);
    } else {
      mirt_delete(node->p);
    }
    for (size_t k = 0; k < NODES; k++) {
      for (size_t e = 0; e < graph.nodes[k].edge_count; e++) {
        if (graph.nodes[k].edges[e] == node) graph.nodes[k].edges[e] = NULL;
      }
    }
    memset(node, 0, sizeof *node);
  }
}

static void change_mutator(void) {
  require(mirt_mutator_unbind(graph.mutators[graph.bound]) == 0);
  if (roll(3) == 0) {
    require(mirt_mutator_destroy(graph.mutators[graph.bound]) == 0);
    graph.mutators[graph.bound] = NULL;
  }
  graph.bound = (unsigned)roll(COUNT_OF(graph.mutators));
  mirt_mutator_t **mutator = &graph.mutators[graph.bound];
  if (*mutator == NULL) *mutator = mirt_mutator_create_in(graph.runtime);
  require(mirt_mutator_bind(*mutator) == 0);
}

/* Change the graph: new objects, other edges, other roots. */
static void mutate(size_t steps) {
  for (size_t i = 0; i < steps; i++) {
    struct node *node = &graph.nodes[roll(NODES)];
    if (node->p == NULL) {
      make_node(node);
    } else if (node->edge_count > 0) {
      set_edge(node, roll(node->edge_count), roll(3) == 0 ? NULL : any_node());
    }
    if (roll(50) == 0) graph.roots[roll(ROOTS)] = roll(4) == 0 ? NULL : any_node();
    if (roll(400) == 0) change_mutator();
  }
  /* So that it does not all hang together. */
  if (roll(6) == 0) memset(graph.roots, 0, sizeof graph.roots);
  if (roll(3) == 0) delete_some();
}

/* Collect, and compare with the model. */
static void collect_graph(const mirt_gc_options_t *options) {
  reach();
  size_t live = 0, bytes = 0, dead = 0, dead_bytes = 0;
  for (size_t i = 0; i < NODES; i++) {
    const struct node *node = &graph.nodes[i];
    if (node->p == NULL) continue;
    *(node->is_reached ? &live : &dead) += 1;
    *(node->is_reached ? &bytes : &dead_bytes) += node->block;
  }
  mirt_gc_stats_t stats;
  /* Now and then there is no memory for the stacks. */
  const bool has_memory = !graph.has_collected || roll(4) != 0;
  graph.has_collected = true;
  if (!has_memory) system_fail(SYSTEM_RESERVE, 1, SIZE_MAX / 2, ENOMEM);
  require(mirt_collect(graph.runtime, mark_graph, &graph, options, &stats) == 0);
  if (!has_memory) system_reset();
  if (!has_memory) errors_clear();
  require(stats.live_objects == live);
  require(stats.live_bytes == bytes);
  require(stats.freed_objects == dead);
  require(stats.freed_bytes == dead_bytes);
  require(stats.finalized == 0 && stats.weak_cleared == 0);
  require(stats.mark_time + stats.sweep_time <= stats.pause_time);
  const bool is_swept = !options->is_lazy || roll(4) == 0;
  if (is_swept) {
    sweep_rest(graph.runtime);
    require(is_clean(graph.runtime));
  }
  require(live_bytes(graph.runtime) == bytes); /* what is yet to be swept is not live */
  for (size_t i = 0; i < NODES; i++) {
    struct node *node = &graph.nodes[i];
    if (node->p == NULL) continue;
    if (node->is_reached) {
      mirt_found_t found;
      require(mirt_find(graph.runtime, (uintptr_t)node->p + roll(node->size), &found));
      require(found.object == node->p && found.size == node->block);
      require(found.type == node_type(node));
      check_node(node);
    } else {
      if (is_swept) require(!mirt_find(graph.runtime, (uintptr_t)node->p, NULL));
      memset(node, 0, sizeof *node);
    }
  }
}

START_TEST(test_graph) {
  graph_begin(_i);
  for (int round = 0; round < TEST_ROUNDS(50); round++) {
    mutate(200 + roll(6000));
    for (size_t again = roll(3) + 1; again > 0; again--) {
      const mirt_gc_options_t options = {.markers = (unsigned)roll(5),
                                         .is_lazy = roll(2) == 0};
      collect_graph(&options);
    }
  }
  memset(graph.roots, 0, sizeof graph.roots);
  collect_graph(&(mirt_gc_options_t){0});
  ck_assert_uint_eq(live_bytes(graph.runtime), 0);
  runtime_end(graph.runtime, graph.mutators[graph.bound]);
  assert_no_errors();
}
END_TEST

/* ---- errors ---- */

static void collect_within(mirt_marker_t *marker, void *argument) {
  (void)marker;
  require(mirt_collect(argument, mark_array, NULL, NULL, NULL) == EBUSY);
  require(mirt_gc_begin(argument, NULL) == EBUSY);
  assert_errors(EBUSY, 2);
}

START_TEST(test_errors) {
  mirt_runtime_t *runtime = runtime_plain();
  void *none[] = {NULL};
  const mirt_gc_options_t many = {.markers = MIRT_MARKERS_MAX + 1};
  ck_assert_int_eq(mirt_collect(NULL, mark_array, none, NULL, NULL), EINVAL);
  ck_assert_int_eq(mirt_collect(runtime, NULL, none, NULL, NULL), EINVAL);
  ck_assert_int_eq(mirt_collect(runtime, mark_array, none, &many, NULL), EINVAL);
  ck_assert_int_eq(mirt_gc_begin(NULL, NULL), EINVAL);
  ck_assert_int_eq(mirt_gc_begin(runtime, &many), EINVAL);
  ck_assert_int_eq(mirt_gc_end(NULL, NULL), EINVAL);
  ck_assert_int_eq(mirt_gc_end(runtime, NULL), EINVAL);
  assert_errors(EINVAL, 7);
  ck_assert_uint_eq(mirt_gc_sweep(runtime, 10), 0);
  ck_assert_uint_eq(mirt_gc_finalize(runtime), 0);
  ck_assert_int_eq(mirt_collect(runtime, collect_within, runtime, NULL, NULL), 0);
  ck_assert_int_eq(mirt_gc_end(runtime, NULL), EINVAL);
  assert_errors(EINVAL, 1);
  ck_assert_ptr_null(mirt_weak_new(NULL, none, NULL));
  ck_assert_ptr_null(mirt_weak_new(runtime, NULL, NULL));
  assert_errors(EINVAL, 2);
  mirt_weak_delete(runtime, NULL);
  const mirt_gc_options_t most = {.markers = MIRT_MARKERS_MAX};
  ck_assert_int_eq(mirt_gc_begin(runtime, &most), 0);
  ck_assert_ptr_nonnull(mirt_gc_marker(runtime, MIRT_MARKERS_MAX - 1));
  ck_assert_ptr_null(mirt_gc_marker(runtime, MIRT_MARKERS_MAX));
  assert_errors(EINVAL, 1);
  ck_assert_int_eq(mirt_gc_end(runtime, NULL), 0);
  runtime_end(runtime, NULL);
  assert_no_errors();
}
END_TEST

/* ---- the mark stack ---- */

#define DEEP ((size_t)TEST_ROUNDS(10000000))

/* A list as long as no stack of calls. */
START_TEST(test_deep) {
  mirt_runtime_t *runtime = runtime_plain();
  mirt_mutator_t *mutator = mutator_bound(runtime);
  const mirt_type_t *type = type_of_slots(runtime, 2);
  void **first = NULL;
  for (size_t i = 0; i < DEEP; i++) {
    void **pair = mirt_new(mutator, type);
    require(pair != NULL);
    pair[0] = first;
    pair[1] = i % 7 == 0 ? pair : NULL;
    first = pair;
  }
  void *roots[] = {first, NULL};
  for (unsigned markers = 1; markers <= 4; markers += 3) {
    const mirt_gc_stats_t stats =
        collect(runtime, roots, &(mirt_gc_options_t){.markers = markers});
    ck_assert_uint_eq(stats.live_objects, DEEP);
    ck_assert_uint_eq(stats.freed_objects, 0);
  }
  size_t count = 0;
  for (void **pair = first; pair != NULL; pair = pair[0]) count++;
  ck_assert_uint_eq(count, DEEP);
  ck_assert_uint_eq(collect(runtime, NULL, NULL).freed_objects, DEEP);
  runtime_end(runtime, mutator);
  assert_no_errors();
}
END_TEST

/* Arrays that are traced in pieces, of objects that all have to wait on the stack: a
 * tree of arrays of this many slots. Returns the root; count receives the objects. */
static void **tree_new(mirt_mutator_t *mutator, const mirt_type_t *array, size_t width,
                       int depth, size_t *count) {
  void **node = mirt_new_sized_zeroed(mutator, array, width * 8);
  require(node != NULL);
  ++*count;
  for (size_t i = 0; depth > 0 && i < width; i++) {
    node[i] = tree_new(mutator, array, depth == 1 ? 2 : width, depth - 1, count);
  }
  return node;
}

static const struct {
  size_t width;
  int depth;
} trees[] = {{300000, 1}, {511, 2}, {513, 2}, {1024, 2}, {3, 11}, {40000, 1}};

static mirt_type_t *type_array(mirt_runtime_t *runtime) {
  return type_with(runtime, &(mirt_type_options_t){
                                .is_variable = true, .slot_size = 8, .is_array = true});
}

START_TEST(test_wide) {
  mirt_runtime_t *runtime = runtime_plain();
  mirt_mutator_t *mutator = mutator_bound(runtime);
  const mirt_type_t *array = type_array(runtime);
  size_t count = 0;
  void *roots[] = {tree_new(mutator, array, trees[_i].width, trees[_i].depth, &count),
                   NULL};
  for (unsigned markers = 1; markers <= 4; markers++) {
    for (int i = 0; i < 100; i++) {
      require(mirt_new_sized_zeroed(mutator, array, 100) != NULL);
    }
    const mirt_gc_options_t options = {.markers = markers, .is_lazy = markers == 3};
    const mirt_gc_stats_t stats = collect(runtime, roots, &options);
    ck_assert_uint_eq(stats.live_objects, count);
    ck_assert_uint_eq(stats.freed_objects, 100);
  }
  ck_assert_uint_eq(collect(runtime, NULL, NULL).freed_objects, count);
  runtime_end(runtime, mutator);
  assert_no_errors();
}
END_TEST

/* Without memory for the stacks it takes longer, but marks the same. */
START_TEST(test_overflow) {
  mirt_runtime_t *runtime = runtime_plain();
  mirt_mutator_t *mutator = mutator_bound(runtime);
  const mirt_type_t *array = type_array(runtime);
  system_reset();
  system_fail(SYSTEM_RESERVE, 1, SIZE_MAX / 2, ENOMEM);
  void *none[] = {NULL};
  ck_assert_int_eq(mirt_collect(runtime, mark_array, none, NULL, NULL), ENOMEM);
  ck_assert_uint_ge(errors_of(ENOMEM), 1);
  errors_clear();
  system_reset();
  collect(runtime, NULL, NULL);
  const size_t width = TEST_HAS_SHADOW && trees[_i].depth == 2 ? 100 : trees[_i].width;
  size_t count = 0;
  void *roots[] = {tree_new(mutator, array, width, trees[_i].depth, &count), NULL};
  const size_t bytes = live_bytes(runtime);
  for (size_t first = 1; first <= 4; first++) { /* there is one mapping, two, ... */
    for (unsigned markers = 1; markers <= 3; markers++) {
      for (int i = 0; i < 100; i++) {
        require(mirt_new_sized_zeroed(mutator, array, 100) != NULL);
      }
      system_fail(SYSTEM_RESERVE, first, SIZE_MAX / 2, ENOMEM);
      const mirt_gc_options_t options = {.markers = markers};
      const mirt_gc_stats_t stats = collect(runtime, roots, &options);
      if (first == 1) ck_assert_uint_ge(system_failures(SYSTEM_RESERVE), 1);
      system_reset();
      ck_assert_uint_eq(stats.live_objects, count);
      ck_assert_uint_eq(stats.live_bytes, bytes);
      ck_assert_uint_eq(stats.freed_objects, 100);
    }
  }
  system_fail(SYSTEM_RESERVE, 1, SIZE_MAX / 2, ENOMEM);
  ck_assert_uint_eq(collect(runtime, NULL, NULL).freed_objects, count);
  system_reset();
  runtime_end(runtime, mutator);
  errors_clear(); /* a line for each time that the system had no memory */
}
END_TEST

/* What is marked is known before the end, also then. */
START_TEST(test_overflow_is_traced) {
  mirt_runtime_t *runtime = runtime_plain();
  mirt_mutator_t *mutator = mutator_bound(runtime);
  const mirt_type_t *pair = type_of_slots(runtime, 2);
  collect(runtime, NULL, NULL);
  void **first = NULL;
  static void *all[1000];
  for (size_t i = 0; i < COUNT_OF(all); i++) {
    void **p = mirt_new_zeroed(mutator, pair);
    p[0] = first;
    all[i] = first = p;
  }
  system_reset();
  system_fail(SYSTEM_RESERVE, 1, SIZE_MAX / 2, ENOMEM);
  ck_assert_int_eq(mirt_gc_begin(runtime, NULL), 0);
  mirt_marker_t *marker = mirt_gc_marker(runtime, 0);
  ck_assert(mirt_mark(marker, first));
  mirt_gc_trace(marker);
  ck_assert_int_eq(mirt_gc_complete(runtime), 0);
  size_t marked = 0;
  for (size_t i = 0; i < COUNT_OF(all); i++) marked += mirt_is_marked(runtime, all[i]);
  ck_assert_int_eq(mirt_gc_end(runtime, NULL), 0);
  system_reset();
  ck_assert_uint_eq(marked, COUNT_OF(all));
  runtime_end(runtime, mutator);
  errors_clear();
}
END_TEST

/* ---- words that may be addresses ---- */

#define OBJECTS 600

/* Objects of several sizes, sorted by address, some of which were freed. */
struct field {
  mirt_runtime_t *runtime;
  mirt_mutator_t *mutator;
  struct {
    uintptr_t start;
    size_t size;
    bool is_live, is_wanted;
  } objects[OBJECTS];
  struct dice dice;
};

static struct field field;

static int compare_starts(const void *a, const void *b) {
  const uintptr_t x = *(const uintptr_t *)a, y = *(const uintptr_t *)b;
  return (x > y) - (x < y);
}

static void field_begin(uint64_t number) {
  memset(&field, 0, sizeof field);
  field.dice = dice_new(number);
  field.runtime = runtime_plain();
  field.mutator = mutator_bound(field.runtime);
  const mirt_type_t *types[] = {
      type_with(field.runtime, &(mirt_type_options_t){.size = 24}),
      type_with(field.runtime, &(mirt_type_options_t){.size = 5000}),
      type_with(field.runtime, &(mirt_type_options_t){.size = 200000}),
      type_with(field.runtime, &(mirt_type_options_t){.is_variable = true})};
  for (size_t i = 0; i < OBJECTS; i++) {
    const mirt_type_t *type = types[i % 20 == 0 ? 2 : i % 2 == 0 ? 0 : 1 + i / 2 % 2 * 2];
    void *object =
        type->block_size != 0
            ? mirt_new(field.mutator, type)
            : mirt_new_sized(
                  field.mutator, type,
                  1 + dice_roll(&field.dice, (size_t)8 << dice_roll(&field.dice, 17)));
    mirt_found_t found;
    require(object != NULL && mirt_find(field.runtime, (uintptr_t)object, &found));
    field.objects[i].start = (uintptr_t)object;
    field.objects[i].size = found.size;
    field.objects[i].is_live = true;
  }
  qsort(field.objects, OBJECTS, sizeof field.objects[0], compare_starts);
  for (size_t i = 0; i < OBJECTS; i++) {
    if (dice_roll(&field.dice, 3) != 0) continue;
    mirt_delete((void *)field.objects[i].start);
    field.objects[i].is_live = false;
  }
}

/* The object at an address, or into which it points, or -1. */
static int field_at(uintptr_t word) {
  int low = 0, high = OBJECTS;
  while (low < high) {
    const int middle = (low + high) / 2;
    if (field.objects[middle].start <= word) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  if (low == 0 || word - field.objects[low - 1].start >= field.objects[low - 1].size) {
    return -1;
  }
  return field.objects[low - 1].is_live ? low - 1 : -1;
}

/* A word: an object, a part of it, one that is dead, what lies beside it, or anything. */
static uintptr_t any_word(void) {
  struct dice *dice = &field.dice;
  const size_t i = dice_roll(dice, OBJECTS);
  const uintptr_t start = field.objects[i].start;
  const size_t size = field.objects[i].size;
  switch (dice_roll(dice, 8)) {
    case 0: return start;
    case 1: return start + dice_roll(dice, size);
    case 2: return start + size - 1 + dice_roll(dice, 3);
    case 3: return start - 1;
    case 4: return start / SLICE_SIZE * SLICE_SIZE + dice_roll(dice, 2 * SLICE_SIZE);
    case 5: return start + ((uintptr_t)1 << dice_roll(dice, 64));
    case 6: return (uintptr_t)dice_word(dice) >> dice_roll(dice, 64);
    default: return dice_word(dice) % 2 == 0 ? (uintptr_t)dice - 64 : UINTPTR_MAX;
  }
}

START_TEST(test_find) {
  field_begin(2000 + (uint64_t)_i);
  size_t hits = 0;
  const int words = TEST_ROUNDS(400000);
  for (int i = 0; i < words; i++) {
    const uintptr_t word = any_word();
    const int expected = field_at(word);
    mirt_found_t found = {0};
    const bool is_there = mirt_find(field.runtime, word, &found);
    require(is_there == (expected >= 0));
    if (!is_there) continue;
    hits++;
    require((uintptr_t)found.object == field.objects[expected].start);
    require(found.size == field.objects[expected].size);
    require(found.type->runtime == field.runtime);
  }
  ck_assert_uint_ge(hits, (size_t)words / 10);
  /* Each byte around the ends of each object. */
  for (int i = 0; i < OBJECTS; i++) {
    const uintptr_t start = field.objects[i].start, size = field.objects[i].size;
    for (int k = -20; k < 20; k++) {
      const uintptr_t word = start + (uintptr_t)(intptr_t)k;
      require(mirt_find(field.runtime, word, NULL) == (field_at(word) >= 0));
      require(mirt_find(field.runtime, word + size, NULL) ==
              (field_at(word + size) >= 0));
    }
  }
  /* When all is free, and when it has gone back to the system. */
  mirt_runtime_t *other = runtime_plain();
  for (int round = 0; round < 3; round++) {
    if (round == 0) collect(field.runtime, NULL, NULL);
    if (round == 1) mi_collect(true);
    if (round == 2) runtime_end(field.runtime, field.mutator);
    for (int i = 0; i < TEST_ROUNDS(50000); i++) {
      require(!mirt_find(round == 2 ? other : field.runtime, any_word(), NULL));
    }
  }
  runtime_end(other, NULL);
  assert_no_errors();
}
END_TEST

START_TEST(test_conservative) {
  for (int round = 0; round < TEST_ROUNDS(60); round++) {
    if (round % 20 == 0) {
      if (round != 0) runtime_end(field.runtime, field.mutator);
      field_begin(3000 + (uint64_t)round);
    }
    uintptr_t words[200];
    for (size_t i = 0; i < COUNT_OF(words); i++) words[i] = any_word();
    /* Only whole words between the two count. */
    const char *begin = (const char *)words + 8 + dice_roll(&field.dice, 30);
    const char *end =
        (const char *)(words + COUNT_OF(words)) - dice_roll(&field.dice, 30);
    size_t expected = 0;
    for (size_t i = 0; i < OBJECTS; i++) field.objects[i].is_wanted = false;
    for (size_t i = 0; i < COUNT_OF(words); i++) {
      if ((const char *)&words[i] < begin || (const char *)&words[i + 1] > end) continue;
      const int at = field_at(words[i]);
      if (at < 0 || field.objects[at].is_wanted) continue;
      field.objects[at].is_wanted = true;
      expected++;
    }
    const mirt_gc_options_t options = {.is_lazy = round % 4 == 0};
    ck_assert_int_eq(mirt_gc_begin(field.runtime, &options), 0);
    mirt_marker_t *marker = mirt_gc_marker(field.runtime, 0);
    ck_assert_uint_eq(mirt_mark_conservative(marker, begin, begin), 0);
    ck_assert_uint_eq(mirt_mark_conservative(marker, begin, begin - 8), 0);
    ck_assert_uint_eq(mirt_mark_conservative(marker, begin, end), expected);
    ck_assert_uint_eq(mirt_mark_conservative(marker, begin, end), 0);
    for (size_t i = 0; i < OBJECTS; i++) {
      require(mirt_is_marked(field.runtime, (void *)field.objects[i].start) ==
              field.objects[i].is_wanted);
      /* Those few that nobody wants live on now and then. */
      if (field.objects[i].is_live && i % 4 != (size_t)round % 4) {
        mirt_mark(marker, (void *)field.objects[i].start);
        field.objects[i].is_wanted = true;
      }
    }
    mirt_gc_stats_t stats;
    ck_assert_int_eq(mirt_gc_end(field.runtime, &stats), 0);
    size_t live = 0;
    for (size_t i = 0; i < OBJECTS; i++) {
      live += field.objects[i].is_live = field.objects[i].is_wanted;
    }
    ck_assert_uint_eq(stats.live_objects, live);
    sweep_rest(field.runtime);
    for (size_t i = 0; i < OBJECTS; i++) {
      require(is_object(field.runtime, (void *)field.objects[i].start) ==
              field.objects[i].is_live);
    }
  }
  runtime_end(field.runtime, field.mutator);
  assert_no_errors();
}
END_TEST

/* ---- the stack and the registers ---- */

/* Addresses are kept in disguise, so that only what a test puts somewhere is found. */
#define DISGUISE(p) (~(uintptr_t)(p))

static mirt_marker_t *stack_marker;
static const void *stack_bottom;

/* Not instrumented: a sanitizer would put the variables elsewhere. */
__attribute__((noinline, no_sanitize("address", "thread", "undefined"))) static void
mark_with_locals(const uintptr_t *disguised, size_t count) {
  volatile uintptr_t locals[32];
  for (size_t i = 0; i < count; i++) locals[i] = ~disguised[i] + i % 3;
  (void)mirt_mark_stack(stack_marker, stack_bottom);
  uintptr_t all = 0; /* they are needed until here */
  for (size_t i = 0; i < count; i++) all |= locals[i];
  (void)all;
  for (size_t i = 0; i < count; i++) locals[i] = 0;
}

__attribute__((noinline, no_sanitize("address", "thread", "undefined"))) static void
clear_stack(void) {
  volatile char below[16 * KiB];
  for (size_t i = 0; i < sizeof below; i++) below[i] = 0;
}

#if defined(__x86_64__)
/* with_register(mark, marker, bottom, disguised, number): call the function with the
 * object in one of the registers that it has to keep, and nowhere else. */
void with_register(size_t (*mark)(mirt_marker_t *, const void *), mirt_marker_t *marker,
                   const void *bottom, uintptr_t disguised, long number);
__asm__(".text\n.globl with_register\n.type with_register, @function\nwith_register:\n"
        "\tpushq %rbx\n\tpushq %rbp\n\tpushq %r12\n\tpushq %r13\n\tpushq %r14\n"
        "\tpushq %r15\n\tsubq $8, %rsp\n"
        "\tmovq $0, (%rsp)\n"
        "\tmovq %rdi, %rax\n\tmovq %rsi, %rdi\n\tmovq %rdx, %rsi\n"
        "\tnotq %rcx\n"
        "\txorl %ebx, %ebx\n\txorl %ebp, %ebp\n\txorl %r12d, %r12d\n"
        "\txorl %r13d, %r13d\n\txorl %r14d, %r14d\n\txorl %r15d, %r15d\n"
        "\tcmpq $0, %r8\n\tcmoveq %rcx, %rbx\n"
        "\tcmpq $1, %r8\n\tcmoveq %rcx, %rbp\n"
        "\tcmpq $2, %r8\n\tcmoveq %rcx, %r12\n"
        "\tcmpq $3, %r8\n\tcmoveq %rcx, %r13\n"
        "\tcmpq $4, %r8\n\tcmoveq %rcx, %r14\n"
        "\tcmpq $5, %r8\n\tcmoveq %rcx, %r15\n"
        "\txorl %ecx, %ecx\n"
        "\tcall *%rax\n"
        "\taddq $8, %rsp\n\tpopq %r15\n\tpopq %r14\n\tpopq %r13\n\tpopq %r12\n"
        "\tpopq %rbp\n\tpopq %rbx\n\tret\n.size with_register, .-with_register\n");
#define KEPT_REGISTERS 6
#else
#define KEPT_REGISTERS 0
#endif

__attribute__((no_sanitize("address", "thread", "undefined"))) START_TEST(test_stack) {
  mirt_runtime_t *runtime = runtime_plain();
  mirt_mutator_t *mutator = mutator_bound(runtime);
  const mirt_type_t *type = type_of_slots(runtime, 2);
  static uintptr_t disguised[64];
  for (size_t i = 0; i < COUNT_OF(disguised); i++) {
    disguised[i] = DISGUISE(mirt_new_zeroed(mutator, type));
  }
  uintptr_t bottom = 0;
  stack_bottom = &bottom;
  clear_stack();
  ck_assert_int_eq(mirt_gc_begin(runtime, NULL), 0);
  stack_marker = mirt_gc_marker(runtime, 0);
  mark_with_locals(disguised, 32);
  /* What is on the stack by chance is allowed to live, what is meant to is required
   * to. */
  for (size_t i = 0; i < 32; i++) require(mirt_is_marked(runtime, (void *)~disguised[i]));
  size_t others = 0;
  for (size_t i = 32; i < COUNT_OF(disguised); i++) {
    others += mirt_is_marked(runtime, (void *)~disguised[i]);
  }
  ck_assert_uint_le(others, 8);
  ck_assert_int_eq(mirt_gc_end(runtime, NULL), 0);
#if KEPT_REGISTERS != 0
  for (long number = 0; number < KEPT_REGISTERS; number++) {
    const uintptr_t hidden = DISGUISE(mirt_new_zeroed(mutator, type));
    clear_stack();
    ck_assert_int_eq(mirt_gc_begin(runtime, NULL), 0);
    with_register(mirt_mark_stack, mirt_gc_marker(runtime, 0), &bottom, hidden, number);
    ck_assert(mirt_is_marked(runtime, (void *)~hidden));
    ck_assert_int_eq(mirt_gc_end(runtime, NULL), 0);
  }
#endif
  runtime_end(runtime, mutator);
  assert_no_errors();
}
END_TEST

/* ---- weak references ---- */

START_TEST(test_weak) {
  mirt_runtime_t *runtime = runtime_plain();
  mirt_mutator_t *mutator = mutator_bound(runtime);
  const mirt_type_t *type = type_of_slots(runtime, 2);
  void **kept = mirt_new_zeroed(mutator, type), **lost = mirt_new_zeroed(mutator, type);
  mirt_weak_t *to_kept = mirt_weak_new(runtime, kept, NULL);
  mirt_weak_t *to_lost = mirt_weak_new(runtime, lost, NULL);
  mirt_weak_t *again = mirt_weak_new(runtime, lost, kept);
  mirt_weak_t *deleted = mirt_weak_new(runtime, lost, NULL);
  ck_assert_ptr_eq(mirt_weak_get(to_lost), lost);
  ck_assert_ptr_eq(mirt_weak_value(again), kept);
  mirt_weak_delete(runtime, deleted);
  void *roots[] = {kept, NULL};
  mirt_gc_stats_t stats = collect(runtime, roots, NULL);
  ck_assert_uint_eq(stats.weak_cleared, 2);
  ck_assert_uint_eq(stats.freed_objects, 1);
  ck_assert_ptr_eq(mirt_weak_get(to_kept), kept);
  ck_assert_ptr_null(mirt_weak_get(to_lost));
  ck_assert_ptr_null(mirt_weak_get(again));
  ck_assert_ptr_null(mirt_weak_value(again));
  mirt_weak_set_value(again, kept); /* of one that is cleared: it keeps nothing alive */
  ck_assert_ptr_null(mirt_weak_value(again));
  stats = collect(runtime, roots, NULL);
  ck_assert_uint_eq(stats.weak_cleared, 0); /* they were counted before */
  ck_assert_uint_eq(collect(runtime, NULL, NULL).weak_cleared, 1);
  mirt_weak_delete(runtime, to_kept);
  mirt_weak_delete(runtime, to_kept);
  assert_errors(EINVAL, 1);
  mirt_weak_delete(runtime, to_lost);
  mirt_weak_delete(runtime, again);
  runtime_end(runtime, mutator);
  assert_no_errors();
}
END_TEST

#define CHAIN 1000

/* Ephemerons whose value is the next one's object, made in either order; a cycle of them
 * keeps nothing alive. */
START_TEST(test_ephemeron_chain) {
  mirt_runtime_t *runtime = runtime_plain();
  mirt_mutator_t *mutator = mutator_bound(runtime);
  const mirt_type_t *type = type_of_slots(runtime, 2);
  static void **objects[CHAIN];
  static mirt_weak_t *weak[CHAIN];
  for (size_t i = 0; i < CHAIN; i++) objects[i] = mirt_new_zeroed(mutator, type);
  for (size_t k = 0; k < CHAIN; k++) {
    const size_t i = _i == 0 ? k : CHAIN - 1 - k;
    weak[i] = mirt_weak_new(runtime, objects[i], NULL);
    /* Each second through an object between the two. */
    void **value = objects[(i + 1) % CHAIN];
    if (i % 2 == 0) {
      void **between = mirt_new_zeroed(mutator, type);
      between[1] = value;
      value = between;
    }
    mirt_weak_set_value(weak[i], value);
    ck_assert_ptr_eq(mirt_weak_value(weak[i]), value);
  }
  void *roots[] = {objects[CHAIN / 3], NULL};
  const mirt_gc_options_t options = {.markers = 2};
  mirt_gc_stats_t stats = collect(runtime, roots, &options);
  ck_assert_uint_eq(stats.live_objects, CHAIN + CHAIN / 2);
  ck_assert_uint_eq(stats.weak_cleared, 0);
  mirt_weak_set_value(weak[CHAIN - 1], NULL); /* cut it */
  stats = collect(runtime, roots, &options);
  ck_assert_uint_eq(stats.weak_cleared, CHAIN / 3);
  for (size_t i = 0; i < CHAIN; i++) {
    require(mirt_weak_get(weak[i]) == (i < CHAIN / 3 ? NULL : (void *)objects[i]));
    require((mirt_weak_value(weak[i]) == NULL) == (i < CHAIN / 3 || i == CHAIN - 1));
    if (i >= CHAIN / 3) require(is_object(runtime, objects[i]));
  }
  mirt_weak_set_value(weak[CHAIN - 1], objects[CHAIN / 3]); /* a cycle through values */
  stats = collect(runtime, NULL, NULL);
  ck_assert_uint_eq(stats.live_objects, 0);
  ck_assert_uint_eq(stats.weak_cleared, CHAIN - CHAIN / 3);
  runtime_end(runtime, mutator);
  assert_no_errors();
}
END_TEST

#define THINGS 800
#define WEAKS 1500

/* Objects with two edges, some of them roots; weak references, most with values. */
struct weak_model {
  struct {
    void **p;
    int edges[2]; /* -1: none */
    bool is_root, is_reached;
  } things[THINGS];
  struct {
    mirt_weak_t *weak;
    int object, value, owner; /* -1: none */
  } weaks[WEAKS];
};

static struct weak_model weak_model;

static bool reach_thing(int i) {
  if (i < 0 || weak_model.things[i].is_reached) return false;
  weak_model.things[i].is_reached = true;
  for (int k = 0; k < 2; k++) reach_thing(weak_model.things[i].edges[k]);
  return true;
}

/* Do its object and its owner live? */
static bool weak_is_live(int i) {
  const int object = weak_model.weaks[i].object, owner = weak_model.weaks[i].owner;
  return weak_model.things[object].is_reached &&
         (owner < 0 || weak_model.things[owner].is_reached);
}

static void reach_things(void) {
  for (int i = 0; i < THINGS; i++) weak_model.things[i].is_reached = false;
  for (int i = 0; i < THINGS; i++) {
    if (weak_model.things[i].p != NULL && weak_model.things[i].is_root) reach_thing(i);
  }
  for (bool any = true; any;) {
    any = false;
    for (int i = 0; i < WEAKS; i++) {
      if (weak_model.weaks[i].weak == NULL || weak_model.weaks[i].object < 0) continue;
      if (!weak_is_live(i)) continue;
      any |= reach_thing(weak_model.weaks[i].value);
    }
  }
}

static int any_thing(struct dice *dice) {
  const int i = (int)dice_roll(dice, THINGS);
  return weak_model.things[i].p == NULL ? -1 : i;
}

/* Loop test: without owners and with. */
START_TEST(test_weak_model) {
  struct dice dice = dice_new(4000 + (uint64_t)_i);
  memset(&weak_model, 0, sizeof weak_model);
  mirt_runtime_t *runtime = runtime_plain();
  mirt_mutator_t *mutator = mutator_bound(runtime);
  const mirt_type_t *type = type_of_slots(runtime, 3);
  static void *roots[THINGS + 1];
  for (int round = 0; round < TEST_ROUNDS(150); round++) {
    for (int i = 0; i < THINGS; i++) {
      if (weak_model.things[i].p == NULL) {
        weak_model.things[i].p = mirt_new_zeroed(mutator, type);
        for (int k = 0; k < 2; k++) weak_model.things[i].edges[k] = -1;
      }
      weak_model.things[i].p[2] = NULL;
      weak_model.things[i].is_root = dice_roll(&dice, 40) == 0;
      for (size_t k = 0; k < 2; k++) {
        const int target = dice_roll(&dice, 3) == 0 ? any_thing(&dice) : -1;
        weak_model.things[i].edges[k] = target;
        weak_model.things[i].p[k] = target < 0 ? NULL : weak_model.things[target].p;
      }
    }
    for (int i = 0; i < WEAKS; i++) {
      if (weak_model.weaks[i].weak != NULL && dice_roll(&dice, 4) == 0) {
        mirt_weak_delete(runtime, weak_model.weaks[i].weak);
        weak_model.weaks[i].weak = NULL;
      }
      if (weak_model.weaks[i].weak == NULL && dice_roll(&dice, 2) == 0) {
        const int object = (int)dice_roll(&dice, THINGS);
        weak_model.weaks[i].object = object;
        weak_model.weaks[i].value = any_thing(&dice);
        weak_model.weaks[i].owner =
            _i == 0 || dice_roll(&dice, 4) == 0 ? -1 : (int)dice_roll(&dice, THINGS);
        const int value = weak_model.weaks[i].value, owner = weak_model.weaks[i].owner;
        weak_model.weaks[i].weak = mirt_weak_new_in(
            runtime, owner < 0 ? NULL : weak_model.things[owner].p,
            weak_model.things[object].p, value < 0 ? NULL : weak_model.things[value].p);
        require(weak_model.weaks[i].weak != NULL);
      }
      if (weak_model.weaks[i].weak != NULL && weak_model.weaks[i].object >= 0 &&
          dice_roll(&dice, 2) == 0) {
        const int value = dice_roll(&dice, 4) == 0 ? -1 : any_thing(&dice);
        weak_model.weaks[i].value = value;
        mirt_weak_set_value(weak_model.weaks[i].weak,
                            value < 0 ? NULL : weak_model.things[value].p);
      }
    }
    reach_things();
    size_t live = 0, count = 0, cleared = 0;
    for (int i = 0; i < THINGS; i++) {
      live += weak_model.things[i].is_reached;
      if (weak_model.things[i].is_root) roots[count++] = weak_model.things[i].p;
    }
    roots[count] = NULL;
    const mirt_gc_options_t options = {.markers = (unsigned)round % 4,
                                       .is_lazy = round % 3 == 0};
    const mirt_gc_stats_t stats = collect(runtime, roots, &options);
    ck_assert_uint_eq(stats.live_objects, live);
    ck_assert_uint_eq(stats.freed_objects, THINGS - live);
    for (int i = 0; i < WEAKS; i++) {
      if (weak_model.weaks[i].weak == NULL) continue;
      int *object = &weak_model.weaks[i].object, *value = &weak_model.weaks[i].value;
      if (*object >= 0 && !weak_is_live(i)) {
        *object = *value = -1;
        cleared++;
      }
      require(mirt_weak_get(weak_model.weaks[i].weak) ==
              (*object < 0 ? NULL : (void *)weak_model.things[*object].p));
      require(mirt_weak_value(weak_model.weaks[i].weak) ==
              (*value < 0 ? NULL : (void *)weak_model.things[*value].p));
    }
    ck_assert_uint_eq(stats.weak_cleared, cleared);
    for (int i = 0; i < THINGS; i++) {
      if (!weak_model.things[i].is_reached) weak_model.things[i].p = NULL;
    }
  }
  runtime_end(runtime, mutator);
  assert_no_errors();
}
END_TEST

/* ---- finalizers ---- */

#define MORTALS 1500
#define MORTAL_EDGES 3

/* An object with edges, maybe of a type with a finalizer: its number, then the edges. */
struct mortal {
  void **p; /* NULL: there is none */
  size_t size;
  int edges[MORTAL_EDGES]; /* -1: none */
  bool has_finalizer, is_root, is_reached;
  unsigned deaths, calls; /* of its finalizer */
};

struct mortals {
  mirt_runtime_t *runtime;
  mirt_mutator_t *mutator;
  const mirt_cage_t *cage;
  mirt_type_t
      *types[2][3]; /* with a finalizer or not; fixed, of differing sizes, large */
  struct dice dice;
  struct mortal all[MORTALS];
  size_t calls;
  size_t roots;
};

static struct mortals mortals;

#define MORTAL_HEAD 2 /* words: its number, and something that is no slot */

/* An object has died: none of its slots refers to another that died with it. */
static bool finalize_mortal(void *object, size_t size, void *argument) {
  void **p = object;
  require(argument == &mortals);
  const size_t number = (size_t)p[0];
  require(number < MORTALS);
  struct mortal *mortal = &mortals.all[number];
  require(mortal->p == p && mortal->has_finalizer && !mortal->is_reached);
  require(size >= mortal->size);
  require(p[1] == (void *)~number);
  mortal->calls++;
  mortals.calls++;
  require(mortal->calls == mortal->deaths);
  for (size_t k = 0; k < MORTAL_EDGES; k++) {
    const int target = mortal->edges[k];
    const bool is_alive = target >= 0 && mortals.all[target].is_reached;
    require(p[MORTAL_HEAD + k] == (is_alive ? (void *)mortals.all[target].p : NULL));
    if (!is_alive) mortal->edges[k] = -1;
  }
  /* It may allocate; what it allocates dies in the next collection. */
  if (dice_roll(&mortals.dice, 4) == 0) {
    void **other = mirt_new_sized_zeroed(mortals.mutator, mortals.types[0][1], 100);
    require(other != NULL);
    memset(other, 0xff, 16);
  }
  const bool keeps = dice_roll(&mortals.dice, 3) == 0;
  if (!keeps) memset(mortal, 0, sizeof *mortal);
  return keeps;
}

static void mortals_begin(uint64_t number) {
  memset(&mortals, 0, sizeof mortals);
  mortals.dice = dice_new(5000 + number);
  mortals.runtime = runtime_plain();
  mortals.mutator = mutator_bound(mortals.runtime);
  static const uint64_t map[1] = {(((uint64_t)1 << MORTAL_EDGES) - 1) << MORTAL_HEAD};
  for (int i = 0; i < 2; i++) {
    mirt_type_options_t o = {.size = (MORTAL_HEAD + MORTAL_EDGES) * 8,
                             .slot_size = 8,
                             .map = map,
                             .map_slots = MORTAL_HEAD + MORTAL_EDGES,
                             .finalize = i == 0 ? NULL : finalize_mortal,
                             .arg = &mortals};
    mortals.types[i][0] = type_with(mortals.runtime, &o);
    o.size = 200000;
    mortals.types[i][2] = type_with(mortals.runtime, &o);
    o.size = MORTAL_HEAD * 8;
    o.map_slots = 0;
    o.is_variable = o.is_array = true;
    o.array_offset = MORTAL_HEAD * 8;
    mortals.types[i][1] = type_with(mortals.runtime, &o);
  }
}

static void mortal_set_edge(struct mortal *mortal, size_t k) {
  const int target = (int)dice_roll(&mortals.dice, MORTALS);
  mortal->edges[k] =
      mortals.all[target].p == NULL || dice_roll(&mortals.dice, 3) == 0 ? -1 : target;
  mortal->p[MORTAL_HEAD + k] =
      mortal->edges[k] < 0 ? NULL : mortals.all[mortal->edges[k]].p;
}

static void mortal_make(struct mortal *mortal) {
  const size_t number = (size_t)(mortal - mortals.all);
  const size_t column =
      dice_roll(&mortals.dice, 100) == 0 ? 2 : dice_roll(&mortals.dice, 2);
  *mortal = (struct mortal){.has_finalizer = dice_roll(&mortals.dice, 2) == 0};
  const mirt_type_t *type = mortals.types[mortal->has_finalizer][column];
  mortal->size =
      column == 1 ? (MORTAL_HEAD + MORTAL_EDGES) * 8 + 8 * dice_roll(&mortals.dice, 100)
                  : type->size;
  mortal->p = column == 1 ? mirt_new_sized_zeroed(mortals.mutator, type, mortal->size)
                          : mirt_new_zeroed(mortals.mutator, type);
  require(mortal->p != NULL);
  mortal->p[0] = (void *)number;
  mortal->p[1] = (void *)~number;
  for (size_t k = 0; k < MORTAL_EDGES; k++) mortal_set_edge(mortal, k);
}

static void reach_mortal(struct mortal *mortal) {
  if (mortal->is_reached) return;
  mortal->is_reached = true;
  for (size_t k = 0; k < MORTAL_EDGES; k++) {
    if (mortal->edges[k] >= 0) reach_mortal(&mortals.all[mortal->edges[k]]);
  }
}

/* Which will live, and which finalizers are to be called? Returns how many. */
static size_t mortals_reach(void) {
  size_t deaths = 0;
  for (size_t i = 0; i < MORTALS; i++) mortals.all[i].is_reached = false;
  for (size_t i = 0; i < MORTALS; i++) {
    if (mortals.all[i].p != NULL && mortals.all[i].is_root) reach_mortal(&mortals.all[i]);
  }
  for (size_t i = 0; i < MORTALS; i++) {
    struct mortal *mortal = &mortals.all[i];
    if (mortal->p == NULL || mortal->is_reached || !mortal->has_finalizer) continue;
    mortal->deaths++;
    deaths++;
  }
  return deaths;
}

static void mark_mortals(mirt_marker_t *marker, void *argument) {
  (void)argument;
  for (size_t i = 0; i < MORTALS; i++) {
    if (mortals.all[i].p != NULL && mortals.all[i].is_root) {
      mirt_mark(marker, mortals.all[i].p);
    }
  }
}

static void mortals_check(void) {
  for (size_t i = 0; i < MORTALS; i++) {
    struct mortal *mortal = &mortals.all[i];
    if (mortal->p == NULL) continue;
    if (!mortal->is_reached && !mortal->has_finalizer) {
      memset(mortal, 0, sizeof *mortal);
      continue;
    }
    require(is_object(mortals.runtime, mortal->p));
    require(mortal->p[0] == (void *)i && mortal->p[1] == (void *)~i);
    for (size_t k = 0; k < MORTAL_EDGES; k++) {
      const int target = mortal->edges[k];
      require(mortal->p[MORTAL_HEAD + k] ==
              (target < 0 ? NULL : (void *)mortals.all[target].p));
    }
  }
}

START_TEST(test_finalizers) {
  mortals_begin((uint64_t)_i);
  for (int round = 0; round < TEST_ROUNDS(120); round++) {
    for (int i = 0; i < 2500; i++) {
      struct mortal *mortal = &mortals.all[dice_roll(&mortals.dice, MORTALS)];
      if (mortal->p == NULL) {
        mortal_make(mortal);
      } else {
        mortal_set_edge(mortal, dice_roll(&mortals.dice, MORTAL_EDGES));
      }
      mortal->is_root = dice_roll(&mortals.dice, 30) == 0;
    }
    const mirt_gc_options_t options = {.markers = (unsigned)round % 4,
                                       .is_lazy = round % 3 == 0};
    const size_t deaths = mortals_reach(), before = mortals.calls;
    mirt_gc_stats_t stats;
    ck_assert_int_eq(mirt_collect(mortals.runtime, mark_mortals, NULL, &options, &stats),
                     0);
    ck_assert_uint_eq(stats.finalized, deaths);
    ck_assert_uint_eq(mortals.calls - before, deaths);
    mortals_check();
  }
  ck_assert_uint_ge(mortals.calls, 100);
  const size_t calls = mortals.calls;
  runtime_end(mortals.runtime, mortals.mutator); /* calls none */
  ck_assert_uint_eq(mortals.calls, calls);
  assert_no_errors();
}
END_TEST

/* Objects that know how often they were finalized. */
#define COUNTED 3000

struct counted {
  mirt_runtime_t *runtime;
  mirt_mutator_t *mutator;
  mirt_type_t *type;
  unsigned char calls[COUNTED];
  size_t total, depth, depth_most;
  bool collects, keeps;
};

static struct counted counted;

static bool finalize_counted(void *object, size_t size, void *argument) {
  const size_t *p = object;
  require(argument == &counted && size == 24);
  require(p[0] < COUNTED && p[1] == ~p[0]);
  require(is_object(counted.runtime, object)); /* not to be used by others yet */
  const size_t number = p[0];
  counted.calls[number]++;
  counted.total++;
  if (++counted.depth > counted.depth_most) counted.depth_most = counted.depth;
  require(counted.depth < 200);
  if (counted.collects && number % 50 == 0) {
    const mirt_gc_options_t options = {.is_lazy = number % 100 == 0};
    collect(counted.runtime, NULL, &options);
    require(p[0] == number && p[1] == ~number); /* it is still there */
    require(is_object(counted.runtime, object));
  }
  counted.depth--;
  return counted.keeps;
}

static void counted_begin(void) {
  memset(&counted, 0, sizeof counted);
  counted.runtime = runtime_plain();
  counted.mutator = mutator_bound(counted.runtime);
  counted.type = type_with(
      counted.runtime,
      &(mirt_type_options_t){.size = 24, .finalize = finalize_counted, .arg = &counted});
}

static void counted_fill(void) {
  for (size_t i = 0; i < COUNTED; i++) {
    size_t *p = mirt_new_zeroed(counted.mutator, counted.type);
    require(p != NULL);
    p[0] = i;
    p[1] = ~i;
  }
}

#define assert_counted(expected) \
  do { \
    for (size_t i_ = 0; i_ < COUNTED; i_++) { \
      if (counted.calls[i_] != (expected)) { \
        ck_abort_msg("object %zu was finalized %d times", i_, counted.calls[i_]); \
      } \
    } \
  } while (0)

/* A finalizer may collect: what is being finalized, and what is yet to be, stays. */
START_TEST(test_finalizer_collects) {
  counted_begin();
  counted_fill();
  counted.collects = true;
  collect(counted.runtime, NULL, NULL);
  assert_counted(1);
  ck_assert_uint_eq(live_bytes(counted.runtime), 0);
  runtime_end(counted.runtime, counted.mutator);
  assert_no_errors();
}
END_TEST

/* The world goes on between the collection and the finalizers; other collections come. */
START_TEST(test_finalizers_later) {
  counted_begin();
  counted_fill();
  for (int i = 0; i < 3; i++) {
    ck_assert_int_eq(mirt_gc_begin(counted.runtime, NULL), 0);
    mirt_gc_stats_t stats;
    ck_assert_int_eq(mirt_gc_end(counted.runtime, &stats), 0);
    ck_assert_uint_eq(counted.total, 0);
    ck_assert_uint_eq(live_bytes(counted.runtime), COUNTED * 24);
  }
  void *others[1000]; /* none of which gets what is yet to be finalized */
  for (size_t i = 0; i < COUNT_OF(others); i++) {
    others[i] = mirt_new_zeroed(counted.mutator, counted.type);
    require(others[i] != NULL);
  }
  for (size_t i = 0; i < COUNT_OF(others); i++) mirt_delete(others[i]);
  ck_assert_uint_eq(mirt_gc_finalize(counted.runtime), COUNTED);
  assert_counted(1);
  ck_assert_uint_eq(mirt_gc_finalize(counted.runtime), 0);
  collect(counted.runtime, NULL, NULL);
  assert_counted(1);
  ck_assert_uint_eq(live_bytes(counted.runtime), 0);
  runtime_end(counted.runtime, counted.mutator);
  assert_no_errors();
}
END_TEST

/* Kept objects live, and die again. Those that are deleted are not finalized. */
START_TEST(test_finalizer_keeps) {
  counted_begin();
  counted_fill();
  counted.keeps = true;
  for (unsigned i = 1; i <= 5; i++) {
    const mirt_gc_options_t options = {.is_lazy = i % 2 == 0};
    ck_assert_uint_eq(collect(counted.runtime, NULL, &options).finalized, COUNTED);
    assert_counted(i);
    ck_assert_uint_eq(live_bytes(counted.runtime), COUNTED * 24);
  }
  counted.keeps = false;
  ck_assert_uint_eq(collect(counted.runtime, NULL, NULL).finalized, COUNTED);
  ck_assert_uint_eq(live_bytes(counted.runtime), 0);
  ck_assert_uint_eq(collect(counted.runtime, NULL, NULL).finalized, 0);
  mirt_delete(mirt_new_zeroed(counted.mutator, counted.type));
  ck_assert_uint_eq(collect(counted.runtime, NULL, NULL).finalized, 0);
  runtime_end(counted.runtime, counted.mutator);
  assert_no_errors();
}
END_TEST

/* Without memory to note the dead ones, they live until the next collection, and their
 * slots never show what died before. */
struct orphan {
  struct orphan *self, *child;
  size_t calls;
};

static size_t orphan_calls, orphan_strangers;

static bool finalize_orphan(void *object, size_t size, void *argument) {
  struct orphan *orphan = object;
  (void)size, (void)argument;
  orphan_calls++;
  if (orphan->child != NULL) orphan_strangers++;
  return false;
}

START_TEST(test_finalizers_without_memory) {
  orphan_calls = orphan_strangers = 0;
  mirt_runtime_t *runtime = runtime_plain();
  mirt_mutator_t *mutator = mutator_bound(runtime);
  static const uint64_t map[1] = {3};
  const mirt_type_t *child = type_of_slots(runtime, 2);
  const mirt_type_t *type =
      type_with(runtime, &(mirt_type_options_t){.size = sizeof(struct orphan),
                                                .slot_size = 8,
                                                .map = map,
                                                .map_slots = 2,
                                                .finalize = finalize_orphan});
  collect(runtime, NULL, NULL);
  for (int i = 0; i < 500; i++) {
    struct orphan *orphan = mirt_new_zeroed(mutator, type);
    orphan->self = orphan;
    orphan->child = mirt_new_zeroed(mutator, child);
  }
  system_reset();
  system_fail(SYSTEM_RESERVE, 1, SIZE_MAX / 2, ENOMEM);
  ck_assert_uint_eq(collect(runtime, NULL, NULL).finalized, 0);
  ck_assert_uint_ge(system_failures(SYSTEM_RESERVE), 1);
  system_reset();
  errors_clear();
  /* Others have the memory of the children now, if those have gone, and live. */
  static void *roots[501];
  for (int i = 0; i < 500; i++) roots[i] = mirt_new_zeroed(mutator, child);
  collect(runtime, roots, NULL);
  ck_assert_uint_eq(orphan_calls, 500);
  ck_assert_uint_eq(orphan_strangers, 0);
  for (int i = 0; i < 500; i++) require(is_object(runtime, roots[i]));
  runtime_end(runtime, mutator);
  assert_no_errors();
}
END_TEST

/* ---- weak references with owners, and in finalizers ---- */

START_TEST(test_weak_owner) {
  mirt_runtime_t *runtime = runtime_plain();
  mirt_mutator_t *mutator = mutator_bound(runtime);
  const mirt_type_t *type = type_of_slots(runtime, 2);
  enum { TABLE, KEY, VALUE, PARTS };
  /* Each set of those that live: the value does if both others do. */
  for (unsigned set = 0; set < 8; set++) {
    void **parts[PARTS];
    for (int i = 0; i < PARTS; i++) parts[i] = mirt_new_zeroed(mutator, type);
    /* The value refers to both, which keeps neither. */
    parts[VALUE][0] = parts[TABLE];
    parts[VALUE][1] = parts[KEY];
    mirt_weak_t *weak = mirt_weak_new_in(runtime, parts[TABLE], parts[KEY], parts[VALUE]);
    mirt_runtime_stats_t before;
    ck_assert(mirt_runtime_stats(runtime, &before));
    ck_assert_uint_eq(before.weak_references, 1);
    void *roots[PARTS + 1];
    size_t count = 0;
    for (int i = 0; i < PARTS; i++) {
      if ((set & (1u << i)) != 0) roots[count++] = parts[i];
    }
    roots[count] = NULL;
    const bool has_both = (set & 3) == 3 || (set & (1u << VALUE)) != 0;
    const mirt_gc_options_t options = {.is_lazy = set % 2 == 0};
    const mirt_gc_stats_t stats = collect(runtime, roots, &options);
    sweep_rest(runtime);
    ck_assert_uint_eq(stats.live_objects, has_both ? PARTS : count);
    ck_assert_uint_eq(stats.weak_cleared, !has_both);
    ck_assert_ptr_eq(mirt_weak_get(weak), has_both ? parts[KEY] : NULL);
    ck_assert_ptr_eq(mirt_weak_value(weak), has_both ? parts[VALUE] : NULL);
    ck_assert_int_eq(is_object(runtime, parts[VALUE]), has_both);
    /* It is there until it is deleted. */
    ck_assert(mirt_runtime_stats(runtime, &before));
    ck_assert_uint_eq(before.weak_references, 1);
    mirt_weak_delete(runtime, weak);
    ck_assert(mirt_runtime_stats(runtime, &before));
    ck_assert_uint_eq(before.weak_references, 0);
    collect(runtime, NULL, NULL);
    ck_assert_uint_eq(live_bytes(runtime), 0);
  }
  runtime_end(runtime, mutator);
  assert_no_errors();
}
END_TEST

#define ENTRIES 300

/* Tables whose values refer to them, and to the other's keys: they die together. */
START_TEST(test_weak_tables) {
  mirt_runtime_t *runtime = runtime_plain();
  mirt_mutator_t *mutator = mutator_bound(runtime);
  const mirt_type_t *type = type_of_slots(runtime, 2);
  for (int round = 0; round < 4; round++) {
    void **tables[2], **keys[2][ENTRIES];
    static mirt_weak_t *weaks[2][ENTRIES];
    for (int t = 0; t < 2; t++) {
      tables[t] = mirt_new_zeroed(mutator, type);
      for (int i = 0; i < ENTRIES; i++) keys[t][i] = mirt_new_zeroed(mutator, type);
    }
    for (int t = 0; t < 2; t++) {
      for (int i = 0; i < ENTRIES; i++) {
        void **value = mirt_new_zeroed(mutator, type);
        value[0] = tables[t];
        value[1] = keys[1 - t][(i + 1) % ENTRIES];
        weaks[t][i] = mirt_weak_new_in(runtime, tables[t], keys[t][i], value);
        require(weaks[t][i] != NULL);
      }
    }
    const size_t all = 2 * (1 + 2 * ENTRIES);
    /* One key keeps those that its values lead to, as long as both tables live. */
    void *roots[] = {keys[0][0], tables[0], tables[1], NULL};
    const mirt_gc_options_t options = {.markers = 1 + (unsigned)round % 3};
    mirt_gc_stats_t stats;
    size_t cleared = 2 * ENTRIES;
    if (round % 2 == 0) {
      stats = collect(runtime, roots, &options);
      /* From key to key of the other table, in a ring of all that have its parity. */
      const size_t kept = ENTRIES % 2 == 0 ? ENTRIES : 2 * ENTRIES;
      ck_assert_uint_eq(stats.live_objects, 2 + 2 * kept);
      ck_assert_uint_eq(stats.weak_cleared, 2 * ENTRIES - kept);
      cleared = kept;
      roots[1] = tables[1]; /* the chain ends with what its table has */
      roots[2] = NULL;
      stats = collect(runtime, roots, &options);
      ck_assert_uint_eq(stats.live_objects, 2);
    } else {
      roots[1] = NULL; /* a key alone keeps no table, though its value would */
      stats = collect(runtime, roots, &options);
      ck_assert_uint_eq(stats.live_objects, 1);
      ck_assert_uint_eq(stats.freed_objects, all - 1);
    }
    ck_assert_uint_eq(stats.weak_cleared, cleared);
    for (int t = 0; t < 2; t++) {
      for (int i = 0; i < ENTRIES; i++) {
        require(mirt_weak_get(weaks[t][i]) == NULL);
        require(mirt_weak_value(weaks[t][i]) == NULL);
        mirt_weak_delete(runtime, weaks[t][i]);
      }
    }
    collect(runtime, NULL, NULL);
    ck_assert_uint_eq(live_bytes(runtime), 0);
  }
  runtime_end(runtime, mutator);
  assert_no_errors();
}
END_TEST

START_TEST(test_weak_errors) {
  mirt_runtime_t *runtime = runtime_plain(), *other = runtime_plain();
  mirt_mutator_t *mutator = mutator_bound(runtime);
  const mirt_type_t *type = type_of_slots(runtime, 2);
  void **object = mirt_new_zeroed(mutator, type), **gone = mirt_new_zeroed(mutator, type);
  mirt_delete(gone);
  int local = 0;
  void *block = mi_malloc(16);
  require(mirt_mutator_unbind(mutator) == 0);
  mirt_mutator_t *other_mutator = mutator_bound(other);
  void *stranger = mirt_new_zeroed(other_mutator, type_of_slots(other, 2));
  require(mirt_mutator_unbind(other_mutator) == 0);
  require(mirt_mutator_bind(mutator) == 0);
  void *const wrong[] = {&local, block, gone, stranger, (void *)8};
  for (size_t i = 0; i < COUNT_OF(wrong); i++) {
    ck_assert_ptr_null(mirt_weak_new(runtime, wrong[i], NULL));
    assert_errors(EINVAL, 1);
    ck_assert_ptr_null(mirt_weak_new(runtime, wrong[i], object));
    assert_errors(EINVAL, 1);
    ck_assert_ptr_null(mirt_weak_new(runtime, object, wrong[i]));
    assert_errors(EINVAL, 1);
    ck_assert_ptr_null(mirt_weak_new_in(runtime, wrong[i], object, NULL));
    assert_errors(EINVAL, 1);
    ck_assert_ptr_null(mirt_weak_new_in(runtime, object, wrong[i], object));
    assert_errors(EINVAL, 1);
    ck_assert_ptr_null(mirt_weak_new_in(runtime, object, object, wrong[i]));
    assert_errors(EINVAL, 1);
  }
  ck_assert_ptr_null(mirt_weak_new(runtime, NULL, NULL));
  assert_errors(EINVAL, 1);
  ck_assert_ptr_null(mirt_weak_new_in(runtime, object, NULL, object));
  assert_errors(EINVAL, 1);
  ck_assert_ptr_null(mirt_weak_new(NULL, object, NULL));
  assert_errors(EINVAL, 1);
  mirt_runtime_stats_t stats;
  ck_assert(mirt_runtime_stats(runtime, &stats));
  ck_assert_uint_eq(stats.weak_references, 0);
  mi_free(block);
  runtime_end(other, NULL);
  runtime_end(runtime, mutator);
  assert_no_errors();
}
END_TEST

/* Objects that make ephemerons for themselves when they have died, and put new objects
 * into their slots. */
#define TESTATORS 60

struct testator {
  struct testator *self; /* no slot */
  void **left, **right;  /* slots */
  size_t number;
};

struct testament {
  mirt_runtime_t *runtime;
  mirt_mutator_t *mutator;
  mirt_type_t *type, *plain;
  mirt_weak_t *weaks[TESTATORS], *owned[TESTATORS];
  void *witness; /* lives, if there is one: the owned references are to it */
  struct testator *kept[TESTATORS + 1]; /* by number */
  void *roots[TESTATORS + 1];           /* the same, as they came, and NULL */
  size_t kept_count;
  size_t calls, collections;
  bool keeps, collects;
};

static struct testament testament;

static void **mark_of(size_t number) {
  void **p = mirt_new_zeroed(testament.mutator, testament.plain);
  require(p != NULL);
  p[1] = (void *)(number * 16 + 5); /* no address */
  return p;
}

static void require_mark(void **p, size_t number) {
  require(is_object(testament.runtime, p));
  require(p[1] == (void *)(number * 16 + 5));
}

/* Collect, and put what could be taken for a lost object to another use. */
static void testament_collect(void) {
  const mirt_gc_options_t options = {.is_lazy = testament.collections++ % 2 == 0};
  collect(testament.runtime, testament.roots, &options);
  for (int i = 0; i < 300; i++) {
    require(mirt_new_zeroed(testament.mutator, testament.plain) != NULL);
    require(mirt_new_zeroed(testament.mutator, testament.type) != NULL);
  }
}

static bool finalize_testator(void *object, size_t size, void *argument) {
  struct testator *testator = object;
  require(argument == &testament && size >= sizeof *testator);
  if (testator->self == NULL) return false; /* it only took the place of another */
  require(testator->self == testator && testator->number < TESTATORS);
  const size_t number = testator->number;
  testament.calls++;
  require(testator->left == NULL && testator->right == NULL);
  testator->left = mark_of(number);
  testator->left[0] = mark_of(number + 1000); /* that refers to another */
  mirt_weak_t *weak = mirt_weak_new(testament.runtime, testator, mark_of(number + 2000));
  require(weak != NULL);
  if (testament.collects && number % 8 == 0) testament_collect();
  testator->right = mark_of(number + 3000);
  if (testament.collects && number % 8 == 0) testament_collect();
  require(testator->self == testator && testator->number == number);
  require_mark(testator->left, number);
  require_mark(testator->left[0], number + 1000);
  require_mark(testator->right, number + 3000);
  require(mirt_weak_get(weak) == testator);
  require_mark(mirt_weak_value(weak), number + 2000);
  testament.weaks[number] = weak;
  if (testament.witness != NULL) {
    testament.owned[number] =
        mirt_weak_new_in(testament.runtime, testator, testament.witness, NULL);
    require(mirt_weak_get(testament.owned[number]) == testament.witness);
  }
  if (testament.keeps) {
    testament.kept[number] = testator;
    testament.roots[testament.kept_count++] = testator;
  } else {
    testator->self = NULL;
  }
  return testament.keeps;
}

/* Loop test: with collections in the finalizers or not, and keeping the object or not. */
START_TEST(test_finalizer_and_ephemerons) {
  memset(&testament, 0, sizeof testament);
  testament.runtime = runtime_plain();
  testament.mutator = mutator_bound(testament.runtime);
  testament.collects = _i % 2 == 1;
  testament.keeps = _i / 2 == 1;
  static const uint64_t slots[1] = {6}, first[1] = {1};
  testament.type =
      type_with(testament.runtime, &(mirt_type_options_t){.size = sizeof(struct testator),
                                                          .slot_size = 8,
                                                          .map = slots,
                                                          .map_slots = 3,
                                                          .finalize = finalize_testator,
                                                          .arg = &testament});
  testament.plain = type_with(
      testament.runtime,
      &(mirt_type_options_t){.size = 16, .slot_size = 8, .map = first, .map_slots = 1});
  for (size_t i = 0; i < TESTATORS; i++) {
    struct testator *testator = mirt_new_zeroed(testament.mutator, testament.type);
    testator->self = testator;
    testator->number = i;
    testator->left = mark_of(i); /* they die with it */
    testator->right = (void **)testator;
    if (i % 2 == 0) testator->right = mark_of(i);
  }
  collect(testament.runtime, NULL, NULL);
  ck_assert_uint_eq(testament.calls, TESTATORS);
  mirt_runtime_stats_t stats;
  ck_assert(mirt_runtime_stats(testament.runtime, &stats));
  ck_assert_uint_eq(stats.weak_references, TESTATORS);
  if (testament.keeps) {
    collect(testament.runtime, testament.roots, NULL);
    for (size_t i = 0; i < TESTATORS; i++) {
      struct testator *testator = testament.kept[i];
      require(testator->self == testator && testator->number == i);
      require(mirt_weak_get(testament.weaks[i]) == testator);
      require_mark(mirt_weak_value(testament.weaks[i]), i + 2000);
      require_mark(testator->left, i);
      require_mark(testator->left[0], i + 1000);
      require_mark(testator->right, i + 3000);
    }
    for (size_t i = 0; i < TESTATORS; i++) testament.kept[i]->self = NULL;
  }
  collect(testament.runtime, NULL, NULL);
  collect(testament.runtime, NULL, NULL);
  for (size_t i = 0; i < TESTATORS; i++) {
    ck_assert_ptr_null(mirt_weak_get(testament.weaks[i]));
    ck_assert_ptr_null(mirt_weak_value(testament.weaks[i]));
    mirt_weak_delete(testament.runtime, testament.weaks[i]);
  }
  ck_assert_uint_eq(live_bytes(testament.runtime), 0);
  runtime_end(testament.runtime, testament.mutator);
  assert_no_errors();
}
END_TEST

/* What was let go is not there any more, and not what has taken its place. */
START_TEST(test_ephemeron_of_what_was_let_go) {
  memset(&testament, 0, sizeof testament);
  testament.runtime = runtime_plain();
  testament.mutator = mutator_bound(testament.runtime);
  static const uint64_t slots[1] = {6}, first[1] = {1};
  testament.type =
      type_with(testament.runtime, &(mirt_type_options_t){.size = sizeof(struct testator),
                                                          .slot_size = 8,
                                                          .map = slots,
                                                          .map_slots = 3,
                                                          .finalize = finalize_testator,
                                                          .arg = &testament});
  testament.plain = type_with(
      testament.runtime,
      &(mirt_type_options_t){.size = 16, .slot_size = 8, .map = first, .map_slots = 1});
  for (size_t i = 0; i < TESTATORS; i++) {
    struct testator *testator = mirt_new_zeroed(testament.mutator, testament.type);
    testator->self = testator;
    testator->number = i;
  }
  static void *roots[1001]; /* later, in the same places */
  roots[0] = testament.witness = mark_of(0);
  roots[1] = NULL;
  collect(testament.runtime, roots, NULL);
  ck_assert_uint_eq(testament.calls, TESTATORS);
  for (size_t i = 0; i < TESTATORS; i++) {
    ck_assert_ptr_null(mirt_weak_get(testament.weaks[i]));
    ck_assert_ptr_null(mirt_weak_get(testament.owned[i])); /* its owner has died */
  }
  for (size_t i = 1; i < 1000; i++) {
    roots[i] = mirt_new_zeroed(testament.mutator, testament.type);
  }
  collect(testament.runtime, roots, NULL);
  for (size_t i = 0; i < TESTATORS; i++) {
    ck_assert_ptr_null(mirt_weak_get(testament.weaks[i]));
    ck_assert_ptr_null(mirt_weak_get(testament.owned[i])); /* its owner has died */
    ck_assert_ptr_null(mirt_weak_value(testament.weaks[i]));
  }
  runtime_end(testament.runtime, testament.mutator);
  assert_no_errors();
}
END_TEST

/* ---- immediate values ---- */

/* Objects of 64 bytes, at multiples of that, so that the low bits of a reference to one
 * are free. */
#define TAGGED 400
#define TAGGED_BYTES 64
#define HOLDERS 40

static const struct {
  int cage;      /* 0: none, and pointers of 8 bytes */
  unsigned unit; /* bytes of a slot */
  uint64_t mask, value;
} tagged_cases[] = {
    {0, 8, 1, 1},
    {0, 8, 3, 2},
    {0, 8, 3, 0},
    {0, 8, 7, 7},
    {0, 8, (uint64_t)1 << 63, (uint64_t)1 << 63},
    {0, 8, (uint64_t)3 << 48, (uint64_t)1 << 48},
    {1, 8, 1, 1},
    {1, 4, 1, 1},
    {1, 4, 3, 2},
    {1, 4, 3, 0},
    {1, 4, (uint64_t)1 << 31, (uint64_t)1 << 31},
    {2, 4, 1, 1},
    {2, 4, 7, 7},
    {2, 4, UINT64_MAX << 30 & UINT32_MAX, (uint64_t)1 << 30},
};

struct tagged {
  mirt_runtime_t *runtime;
  mirt_mutator_t *mutator;
  const mirt_cage_t *cage;
  unsigned unit;
  uint64_t mask, value;
  mirt_type_t *target, *holder, *array, *mortal;
  struct dice dice;
  void *targets[TAGGED];
  bool is_reached[TAGGED];
  char *holders[HOLDERS];
  size_t finalized;
  uint64_t left[HOLDERS][TAGGED_BYTES / 4]; /* expected by finalizers */
};

static struct tagged tagged;

static bool is_immediate(uint64_t slot) {
  return tagged.mask != 0 && (slot & tagged.mask) == tagged.value;
}

static uint64_t slot_get(const char *object, size_t i) {
  if (tagged.unit == 8) return ((const uint64_t *)(const void *)object)[i];
  return ((const uint32_t *)(const void *)object)[i];
}

static void slot_set(char *object, size_t i, uint64_t slot) {
  if (tagged.unit == 8) {
    ((uint64_t *)(void *)object)[i] = slot;
  } else {
    ((uint32_t *)(void *)object)[i] = (uint32_t)slot;
  }
}

/* Slots hold numbers that would be references, but for some bits; references with bits
 * that point into the object; and nothing. Returns the target's number, or -1. */
static int any_slot(uint64_t *slot) {
  const int target = (int)dice_roll(&tagged.dice, TAGGED);
  uint64_t ref = tagged.unit == 8 ? (uintptr_t)tagged.targets[target]
                                  : mirt_encode(tagged.cage, tagged.targets[target]);
  ref |= dice_roll(&tagged.dice, 8);
  if (dice_roll(&tagged.dice, 2) == 0) { /* an immediate value that looks like it */
    *slot = (ref & ~tagged.mask) | tagged.value;
    return -1;
  }
  *slot = is_immediate(ref) ? 0 : ref;
  return *slot == 0 ? -1 : target;
}

static bool finalize_tagged(void *object, size_t size, void *argument) {
  require(argument == &tagged && size == TAGGED_BYTES);
  for (size_t i = 0; i < HOLDERS; i++) {
    if (tagged.holders[i] != object) continue;
    for (size_t k = 0; k < TAGGED_BYTES / tagged.unit; k++) {
      require(slot_get(object, k) == tagged.left[i][k]);
    }
    tagged.finalized++;
    return false;
  }
  require(!"known");
  return false;
}

static void tagged_begin(int number) {
  static const mirt_cage_options_t cages[] = {{.size = 64 * MiB},
                                              {.size = 64 * MiB, .shift = 3}};
  memset(&tagged, 0, sizeof tagged);
  tagged.dice = dice_new(9000 + (uint64_t)number);
  const int cage = tagged_cases[number].cage;
  tagged.runtime = runtime_new(cage == 0 ? NULL : &cages[cage - 1], 64 * MiB);
  tagged.cage = mirt_runtime_cage(tagged.runtime);
  tagged.unit = tagged_cases[number].unit;
  tagged.mask = tagged_cases[number].mask;
  tagged.value = tagged_cases[number].value;
  mirt_type_options_t options = {.size = TAGGED_BYTES, .alignment = TAGGED_BYTES};
  tagged.target = type_with(tagged.runtime, &options);
  options.slot_size = tagged.unit;
  options.immediate_mask = tagged.mask;
  options.immediate_value = tagged.value;
  options.is_array = true;
  tagged.array = type_with(tagged.runtime, &options);
  options.is_array = false;
  static const uint64_t map[1] = {UINT64_MAX};
  options.map = map;
  options.map_slots = TAGGED_BYTES / tagged.unit;
  tagged.holder = type_with(tagged.runtime, &options);
  options.finalize = finalize_tagged;
  options.arg = &tagged;
  tagged.mortal = type_with(tagged.runtime, &options);
  tagged.mutator = mutator_bound(tagged.runtime);
}

/* Loop test: tagged_cases. */
START_TEST(test_immediate) {
  tagged_begin(_i);
  const size_t slots = TAGGED_BYTES / tagged.unit;
  for (int round = 0; round < TEST_ROUNDS(40); round++) {
    for (size_t i = 0; i < TAGGED; i++) {
      tagged.is_reached[i] = false;
      tagged.targets[i] = mirt_new_zeroed(tagged.mutator, tagged.target);
      require((uintptr_t)tagged.targets[i] % TAGGED_BYTES == 0);
    }
    static int wanted[HOLDERS][TAGGED_BYTES / 4];
    void *roots[HOLDERS + 1] = {NULL};
    size_t root_count = 0, dying = 0;
    for (size_t i = 0; i < HOLDERS; i++) {
      const mirt_type_t *type = i % 3 == 0   ? tagged.array
                                : i % 3 == 1 ? tagged.holder
                                             : tagged.mortal;
      tagged.holders[i] = mirt_new_zeroed(tagged.mutator, type);
      const bool is_root = type != tagged.mortal;
      if (is_root) roots[root_count++] = tagged.holders[i];
      dying += !is_root;
      for (size_t k = 0; k < slots; k++) {
        uint64_t slot = 0;
        const int target = wanted[i][k] = any_slot(&slot);
        slot_set(tagged.holders[i], k, slot);
        if (is_root && target >= 0) tagged.is_reached[target] = true;
      }
    }
    size_t reached = 0;
    for (size_t i = 0; i < TAGGED; i++) reached += tagged.is_reached[i];
    /* Before finalizers are called, references to what died become null. */
    for (size_t i = 2; i < HOLDERS; i += 3) {
      for (size_t k = 0; k < slots; k++) {
        const bool is_dead = wanted[i][k] >= 0 && !tagged.is_reached[wanted[i][k]];
        tagged.left[i][k] = is_dead ? 0 : slot_get(tagged.holders[i], k);
      }
    }
    tagged.finalized = 0;
    const mirt_gc_options_t options = {.markers = 1 + (unsigned)round % 2,
                                       .is_lazy = round % 3 == 0};
    const mirt_gc_stats_t stats = collect(tagged.runtime, roots, &options);
    sweep_rest(tagged.runtime);
    ck_assert_uint_eq(stats.live_objects, root_count + reached);
    ck_assert_uint_eq(tagged.finalized, dying);
    for (size_t i = 0; i < TAGGED; i++) {
      require(is_object(tagged.runtime, tagged.targets[i]) == tagged.is_reached[i]);
    }
    collect(tagged.runtime, NULL, NULL);
    ck_assert_uint_eq(live_bytes(tagged.runtime), 0);
  }
  runtime_end(tagged.runtime, tagged.mutator);
  assert_no_errors();
}
END_TEST

/* ---- the steps ---- */

/* A thread that marks a part of the roots, and then traces with the others. */
struct part {
  mirt_marker_t *marker;
  void **roots;
  size_t count;
};

static void *mark_part(void *argument) {
  const struct part *part = argument;
  for (size_t i = 0; i < part->count; i++) mirt_mark(part->marker, part->roots[i]);
  mirt_gc_trace(part->marker);
  return NULL;
}

#define FOREST 400

START_TEST(test_own_threads) {
  const unsigned markers = 1 + (unsigned)_i;
  mirt_runtime_t *runtime = runtime_plain();
  mirt_mutator_t *mutator = mutator_bound(runtime);
  const mirt_type_t *array = type_array(runtime);
  static void *roots[FOREST];
  static size_t counts[FOREST];
  size_t shared = 0;
  void *common = tree_new(mutator, array, 4, 5, &shared);
  for (size_t i = 0; i < FOREST; i++) {
    counts[i] = 0;
    void **root = mirt_new_sized_zeroed(mutator, array, 16);
    root[0] = tree_new(mutator, array, 3, 4, &counts[i]);
    root[1] = common;
    counts[i]++;
    roots[i] = root;
  }
  for (int round = 0; round < 8; round++) {
    const mirt_gc_options_t options = {.markers = markers, .is_lazy = round % 2 == 0};
    ck_assert_int_eq(mirt_gc_begin(runtime, &options), 0);
    struct part parts[8] = {0};
    /* Of all roots a part lives on, marked by all threads, in two rounds of tracing. */
    const size_t live = FOREST - (size_t)round * 40, half = live / 2;
    for (int twice = 0; twice < 2; twice++) {
      const size_t first = twice == 0 ? 0 : half;
      const size_t count = twice == 0 ? half : live - half;
      for (unsigned i = 0; i < markers; i++) {
        const size_t begin = count * i / markers, end = count * (i + 1) / markers;
        /* Neighbours overlap: an object is marked twice at once. */
        const size_t more = first + end + 5 <= live ? 5 : 0;
        parts[i] = (struct part){mirt_gc_marker(runtime, i), roots + first + begin,
                                 end - begin + more};
      }
      threads_run(markers, mark_part, parts, sizeof parts[0]);
      for (size_t i = 0; i < first + count; i++) {
        require(mirt_is_marked(runtime, roots[i]));
      }
    }
    size_t expected = shared;
    for (size_t i = 0; i < live; i++) expected += counts[i];
    mirt_gc_stats_t stats;
    ck_assert_int_eq(mirt_gc_end(runtime, &stats), 0);
    ck_assert_uint_eq(stats.live_objects, expected);
    ck_assert_uint_eq(mirt_gc_finalize(runtime), 0);
  }
  runtime_end(runtime, mutator);
  assert_no_errors();
}
END_TEST

/* Fewer threads than markers: what nobody has traced is traced at the end. */
START_TEST(test_marker_without_thread) {
  mirt_runtime_t *runtime = runtime_plain();
  mirt_mutator_t *mutator = mutator_bound(runtime);
  const mirt_type_t *array = type_array(runtime);
  size_t count = 0;
  void *root = tree_new(mutator, array, 30, 3, &count);
  ck_assert_int_eq(mirt_gc_begin(runtime, &(mirt_gc_options_t){.markers = 4}), 0);
  mirt_mark(mirt_gc_marker(runtime, 2), root);
  mirt_gc_stats_t stats;
  ck_assert_int_eq(mirt_gc_end(runtime, &stats), 0);
  ck_assert_uint_eq(stats.live_objects, count);
  runtime_end(runtime, mutator);
  assert_no_errors();
}
END_TEST

static bool count_unswept(struct page *page, void *argument) {
  *(size_t *)argument += page->needs_sweep;
  return true;
}

static size_t unswept_pages(const mirt_runtime_t *runtime) {
  size_t count = 0;
  pages_for_each_in(arena_of_id(mirt_runtime_arena(runtime)), count_unswept, &count);
  return count;
}

/* A lazy collection is swept a few pages at a time. */
START_TEST(test_sweep_in_steps) {
  mirt_runtime_t *runtime = runtime_plain();
  mirt_mutator_t *mutator = mutator_bound(runtime);
  const mirt_type_t *type = type_of_slots(runtime, 4);
  static void *objects[50000], *roots[50000 / 5 + 1];
  for (size_t i = 0; i < COUNT_OF(objects); i++) {
    objects[i] = mirt_new_zeroed(mutator, type);
    if (i % 5 == 0) roots[i / 5] = objects[i];
  }
  const mirt_gc_options_t lazy = {.is_lazy = true};
  const mirt_gc_stats_t stats = collect(runtime, roots, &lazy);
  ck_assert_uint_eq(stats.freed_objects, COUNT_OF(objects) / 5 * 4);
  const size_t pages = unswept_pages(runtime);
  ck_assert_uint_ge(pages, COUNT_OF(objects) * 32 / SLICE_SIZE);
  ck_assert_uint_eq(mirt_gc_sweep(runtime, 0), 0);
  ck_assert_uint_eq(unswept_pages(runtime), pages);
  ck_assert_uint_eq(mirt_gc_sweep(runtime, 1), 1);
  ck_assert_uint_eq(unswept_pages(runtime), pages - 1);
  ck_assert_uint_eq(mirt_gc_sweep(runtime, 5), 5);
  ck_assert_uint_eq(unswept_pages(runtime), pages - 6);
  ck_assert_uint_eq(mirt_gc_sweep(runtime, pages), pages - 6);
  ck_assert_uint_eq(mirt_gc_sweep(runtime, 1), 0);
  ck_assert(is_clean(runtime));
  for (size_t i = 0; i < COUNT_OF(objects); i++) {
    require(is_object(runtime, objects[i]) == (i % 5 == 0));
  }
  runtime_end(runtime, mutator);
  assert_no_errors();
}
END_TEST

/* Pages in which nothing is alive go back in a lazy collection too: types that come and
 * go do not add up. */
START_TEST(test_lazy_gives_back) {
  mirt_runtime_t *runtime = runtime_plain();
  mirt_mutator_t *mutator = mutator_bound(runtime);
  void *no_roots[] = {NULL};
  int64_t pages = 0;
  for (int phase = 0; phase < 6; phase++) {
    const mirt_type_t *type = type_of_slots(runtime, 4 + (size_t)phase);
    for (int round = 0; round < 3; round++) {
      for (size_t i = 0; i < 20000; i++) require(mirt_new_zeroed(mutator, type) != NULL);
      collect(runtime, no_roots, &(mirt_gc_options_t){.is_lazy = true});
    }
    if (phase == 0) pages = pages_now();
    ck_assert_int_le(pages_now(), pages);
  }
  runtime_end(runtime, mutator);
  assert_no_errors();
}
END_TEST

/* Between a lazy collection and its sweep a mutator ends, blocks are freed from
 * elsewhere, and others allocate: nobody gets a live object. */
START_TEST(test_lazy_and_the_world) {
  mirt_runtime_t *runtime = runtime_plain();
  const mirt_type_t *type = type_of_slots(runtime, 4);
  static uintptr_t *objects[20000];
  static void *roots[COUNT_OF(objects) + 1];
  struct dice dice = dice_new(6000);
  for (int round = 0; round < TEST_ROUNDS(40); round++) {
    mirt_mutator_t *mutators[2];
    for (int m = 0; m < 2; m++) {
      mutators[m] = mutator_bound(runtime);
      for (size_t i = 0; i < COUNT_OF(objects); i++) {
        if (objects[i] != NULL || dice_roll(&dice, 2) == 0) continue;
        objects[i] = mirt_new(mutators[m], type);
        require(objects[i] != NULL);
        for (int k = 0; k < 3; k++) objects[i][k] = 0;
        objects[i][3] = 0;
        objects[i][2] = (uintptr_t)objects[i];
      }
      require(mirt_mutator_unbind(mutators[m]) == 0);
      if (m == 0 && round % 2 == 0) continue;
      size_t count = 0;
      for (size_t i = 0; i < COUNT_OF(objects); i++) {
        if (objects[i] != NULL && dice_roll(&dice, 3) == 0) objects[i] = NULL;
        if (objects[i] != NULL) roots[count++] = objects[i];
      }
      roots[count] = NULL;
      const mirt_gc_stats_t stats =
          collect(runtime, roots, &(mirt_gc_options_t){.is_lazy = true});
      require(stats.live_objects == count);
      for (int k = 0; k < 1000; k++) { /* live ones are freed, by a foreign thread */
        const size_t i = dice_roll(&dice, COUNT_OF(objects));
        mirt_delete(objects[i]);
        objects[i] = NULL;
      }
      if (dice_roll(&dice, 2) == 0) mirt_gc_sweep(runtime, 1 + dice_roll(&dice, 10));
    }
    for (int m = 0; m < 2; m++) require(mirt_mutator_destroy(mutators[m]) == 0);
    for (size_t i = 0; i < COUNT_OF(objects); i++) {
      if (objects[i] != NULL) require(objects[i][2] == (uintptr_t)objects[i]);
    }
  }
  collect(runtime, NULL, NULL);
  ck_assert_uint_eq(live_bytes(runtime), 0);
  mirt_runtime_stats_t stats;
  ck_assert(mirt_runtime_stats(runtime, &stats));
  ck_assert_uint_eq(stats.pages_bytes, 0); /* what nobody owned went back */
  runtime_end(runtime, NULL);
  assert_no_errors();
}
END_TEST

/* ---- stopping the world ---- */

START_TEST(test_safepoint_alone) {
  mirt_safepoint_t *safepoint = mirt_safepoint_create();
  ck_assert_ptr_nonnull(safepoint);
  ck_assert_uint_eq(mirt_safepoint_threads(safepoint), 0);
  mirt_safepoint_attach(safepoint);
  ck_assert_uint_eq(mirt_safepoint_threads(safepoint), 1);
  ck_assert_int_eq(mirt_safepoint_destroy(safepoint), EBUSY);
  assert_errors(EBUSY, 1);
  const mirt_safepoint_flag_t *flag = (const mirt_safepoint_flag_t *)safepoint;
  for (int i = 0; i < 3; i++) {
    mirt_safepoint_poll(safepoint);
    mirt_safepoint_leave(safepoint);
    mirt_safepoint_enter(safepoint);
    ck_assert_uint_eq(AO_load(&flag->is_requested), 0);
    ck_assert(mirt_safepoint_request(safepoint));
    ck_assert_uint_eq(AO_load(&flag->is_requested), 1);
    mirt_safepoint_resume(safepoint);
  }
  mirt_safepoint_detach(safepoint);
  ck_assert_int_eq(mirt_safepoint_destroy(safepoint), 0);
  ck_assert_int_eq(mirt_safepoint_destroy(NULL), 0);
  assert_no_errors();
}
END_TEST

/* Threads with lists of their own in a shared heap. */
#define WORKERS 4

struct worker {
  struct crew *crew;
  uint64_t number;
  void **list;   /* root: of objects with a slot and a number */
  size_t length; /* of the list */
  size_t steps;  /* not atomic: only read while the world is stopped */
  bool is_attached;
};

struct crew {
  mirt_runtime_t *runtime;
  mirt_type_t *type;
  mirt_safepoint_t *safepoint;
  struct worker workers[WORKERS];
  atomic_word stoppers; /* threads that have stopped the world: 0 or 1 */
  size_t collections, refused;
};

static void mark_crew(mirt_marker_t *marker, void *argument) {
  const struct crew *crew = argument;
  for (size_t i = 0; i < WORKERS; i++) mirt_mark(marker, crew->workers[i].list);
}

/* The calling worker has stopped the world: nobody else moves. */
static void collect_crew(struct crew *crew, struct dice *dice) {
  require(atomic_fetch_add_full(&crew->stoppers, 1) == 0);
  size_t steps[WORKERS], live = 0;
  for (size_t i = 0; i < WORKERS; i++) {
    steps[i] = crew->workers[i].steps;
    size_t length = 0;
    for (void **p = crew->workers[i].list; p != NULL; p = p[0]) {
      require(p[1] == (void *)(i * 1000003 + 1));
      length++;
    }
    require(length == crew->workers[i].length);
    live += length;
  }
  const mirt_gc_options_t options = {.markers = (unsigned)dice_roll(dice, 3),
                                     .is_lazy = dice_roll(dice, 2) == 0};
  mirt_gc_stats_t stats;
  require(mirt_collect(crew->runtime, mark_crew, crew, &options, &stats) == 0);
  require(stats.live_objects == live);
  crew->collections++;
  for (size_t i = 0; i < WORKERS; i++) require(steps[i] == crew->workers[i].steps);
  require(atomic_fetch_sub_full(&crew->stoppers, 1) == 1);
}

static void worker_step(struct worker *worker, mirt_mutator_t *mutator,
                        struct dice *dice) {
  struct crew *crew = worker->crew;
  worker->steps++;
  if (dice_roll(dice, 200) == 0) {
    worker->list = NULL;
    worker->length = 0;
  }
  for (size_t i = dice_roll(dice, 20); i > 0; i--) {
    void **p = mirt_new(mutator, crew->type);
    require(p != NULL);
    p[1] = (void *)((uintptr_t)(worker - crew->workers) * 1000003 + 1);
    const bool is_kept = i % 4 == 0;
    p[0] = is_kept ? worker->list : NULL;
    if (is_kept) worker->list = p;
    if (is_kept) worker->length++;
  }
}

static void *work(void *argument) {
  struct worker *worker = argument;
  struct crew *crew = worker->crew;
  struct dice dice = dice_new(7000 + worker->number);
  mirt_safepoint_attach(crew->safepoint);
  mirt_mutator_t *mutator = mutator_bound(crew->runtime);
  for (int i = 0; i < TEST_ROUNDS(20000); i++) {
    mirt_safepoint_poll(crew->safepoint);
    worker_step(worker, mutator, &dice);
    switch (dice_roll(&dice, 60)) {
      case 0:
        if (mirt_safepoint_request(crew->safepoint)) {
          collect_crew(crew, &dice);
          mirt_safepoint_resume(crew->safepoint);
        }
        break;
      case 1:
      case 2:
        mirt_safepoint_leave(crew->safepoint);
        sched_yield();
        mirt_safepoint_enter(crew->safepoint);
        break;
      case 3: /* go, and come again with another mutator */
        require(mirt_mutator_unbind(mutator) == 0);
        if (dice_roll(&dice, 2) == 0) {
          require(mirt_mutator_destroy(mutator) == 0);
          mutator = NULL;
        }
        mirt_safepoint_detach(crew->safepoint);
        sched_yield();
        mirt_safepoint_attach(crew->safepoint);
        if (mutator == NULL) mutator = mirt_mutator_create_in(crew->runtime);
        require(mirt_mutator_bind(mutator) == 0);
        break;
      default: break;
    }
  }
  require(mirt_mutator_unbind(mutator) == 0);
  mirt_safepoint_detach(crew->safepoint);
  return NULL;
}

START_TEST(test_safepoint_crew) {
  static struct crew crew;
  memset(&crew, 0, sizeof crew);
  crew.runtime = runtime_plain();
  static const uint64_t map[1] = {1};
  crew.type = type_with(
      crew.runtime,
      &(mirt_type_options_t){.size = 16, .slot_size = 8, .map = map, .map_slots = 1});
  crew.safepoint = mirt_safepoint_create();
  for (size_t i = 0; i < WORKERS; i++) {
    crew.workers[i].crew = &crew;
    crew.workers[i].number = i;
  }
  threads_run(WORKERS, work, crew.workers, sizeof crew.workers[0]);
  ck_assert_uint_ge(crew.collections, 5);
  ck_assert_uint_eq(mirt_safepoint_threads(crew.safepoint), 0);
  struct dice dice = dice_new(7100);
  collect_crew(&crew, &dice);
  ck_assert_int_eq(mirt_safepoint_destroy(crew.safepoint), 0);
  runtime_end(crew.runtime, NULL);
  assert_no_errors();
}
END_TEST

/* All request at the same time: one of them stops the world, the others are stopped. */
struct race {
  mirt_safepoint_t *safepoint;
  atomic_word inside;
  size_t wins; /* not atomic: written while the world is stopped */
  size_t sum;
};

static void *request_often(void *argument) {
  struct race *race = *(struct race **)argument;
  size_t wins = 0;
  mirt_safepoint_attach(race->safepoint);
  for (int i = 0; i < TEST_ROUNDS(2000); i++) {
    if (!mirt_safepoint_request(race->safepoint)) continue;
    require(atomic_fetch_add_full(&race->inside, 1) == 0);
    race->wins++;
    wins++;
    if (i % 16 == 0) sched_yield(); /* the others come to it now */
    require(atomic_fetch_sub_full(&race->inside, 1) == 1);
    mirt_safepoint_resume(race->safepoint);
  }
  while (!mirt_safepoint_request(race->safepoint)) continue;
  race->sum += wins;
  mirt_safepoint_resume(race->safepoint);
  mirt_safepoint_detach(race->safepoint);
  return NULL;
}

START_TEST(test_safepoint_race) {
  struct race race = {.safepoint = mirt_safepoint_create()};
  struct race *races[6] = {&race, &race, &race, &race, &race, &race};
  threads_run(COUNT_OF(races), request_often, races, sizeof races[0]);
  ck_assert_uint_eq(race.wins, race.sum);
  ck_assert_uint_ge(race.wins, 1);
  ck_assert_int_eq(mirt_safepoint_destroy(race.safepoint), 0);
  assert_no_errors();
}
END_TEST

/* Who stops the world waits for each thread that runs, whatever it does when it
 * notices. */
struct runner {
  mirt_safepoint_t *safepoint;
  int what;
  bool is_done; /* not atomic */
};

static void *run_until_requested(void *argument) {
  struct runner *runner = argument;
  const mirt_safepoint_flag_t *flag = (const mirt_safepoint_flag_t *)runner->safepoint;
  mirt_safepoint_attach(runner->safepoint);
  while (AO_load(&flag->is_requested) == 0) sched_yield();
  for (int i = 0; i < 20; i++) sched_yield(); /* who waits for nobody is through now */
  runner->is_done = true;
  switch (runner->what) {
    case 0: mirt_safepoint_poll(runner->safepoint); break;
    case 1: require(!mirt_safepoint_request(runner->safepoint)); break;
    case 2:
      mirt_safepoint_leave(runner->safepoint);
      mirt_safepoint_enter(runner->safepoint);
      break;
    default: break;
  }
  mirt_safepoint_detach(runner->safepoint);
  return NULL;
}

START_TEST(test_safepoint_request_waits) {
  for (int i = 0; i < TEST_ROUNDS(80); i++) {
    struct runner runners[3];
    pthread_t threads[3];
    mirt_safepoint_t *safepoint = mirt_safepoint_create();
    mirt_safepoint_attach(safepoint);
    for (int k = 0; k < 3; k++) {
      runners[k] = (struct runner){safepoint, (_i + i * k) % 4, false};
      ck_assert_int_eq(
          pthread_create(&threads[k], NULL, run_until_requested, &runners[k]), 0);
    }
    while (mirt_safepoint_threads(safepoint) != 4) sched_yield();
    ck_assert(mirt_safepoint_request(safepoint));
    for (int k = 0; k < 3; k++) require(runners[k].is_done);
    mirt_safepoint_resume(safepoint);
    for (int k = 0; k < 3; k++) ck_assert_int_eq(pthread_join(threads[k], NULL), 0);
    ck_assert_uint_eq(mirt_safepoint_threads(safepoint), 1);
    mirt_safepoint_detach(safepoint);
    ck_assert_int_eq(mirt_safepoint_destroy(safepoint), 0);
  }
  assert_no_errors();
}
END_TEST

/* Who has left counts as stopped, and comes back only when the world goes on; who
 * comes new waits, too. */
struct visitor {
  mirt_safepoint_t *safepoint;
  pthread_barrier_t barrier;
  size_t written; /* not atomic: by whom runs, or has stopped the world */
};

static void *leave_and_enter(void *argument) {
  struct visitor *visitor = argument;
  mirt_safepoint_attach(visitor->safepoint);
  mirt_safepoint_leave(visitor->safepoint);
  pthread_barrier_wait(&visitor->barrier); /* blocked, while the world is stopped */
  pthread_barrier_wait(&visitor->barrier);
  mirt_safepoint_enter(visitor->safepoint);
  require(visitor->written == 1);
  visitor->written = 2;
  mirt_safepoint_detach(visitor->safepoint);
  return NULL;
}

static void *attach_while_stopped(void *argument) {
  struct visitor *visitor = argument;
  pthread_barrier_wait(&visitor->barrier);
  pthread_barrier_wait(&visitor->barrier);
  mirt_safepoint_attach(visitor->safepoint);
  require(visitor->written == 1);
  visitor->written = 2;
  mirt_safepoint_detach(visitor->safepoint);
  return NULL;
}

START_TEST(test_safepoint_waits) {
  struct visitor visitor = {.safepoint = mirt_safepoint_create()};
  mirt_safepoint_attach(visitor.safepoint);
  for (int i = 0; i < TEST_ROUNDS(200); i++) {
    ck_assert_int_eq(pthread_barrier_init(&visitor.barrier, NULL, 2), 0);
    pthread_t thread;
    ck_assert_int_eq(pthread_create(&thread, NULL,
                                    i % 2 == 0 ? leave_and_enter : attach_while_stopped,
                                    &visitor),
                     0);
    pthread_barrier_wait(&visitor.barrier);
    ck_assert(mirt_safepoint_request(visitor.safepoint)); /* the other does not poll */
    pthread_barrier_wait(&visitor.barrier);
    for (int k = 0; k < 10; k++) sched_yield(); /* it tries now */
    visitor.written = 1;
    mirt_safepoint_resume(visitor.safepoint);
    mirt_safepoint_leave(visitor.safepoint);
    ck_assert_int_eq(pthread_join(thread, NULL), 0);
    mirt_safepoint_enter(visitor.safepoint);
    ck_assert_uint_eq(visitor.written, 2);
    pthread_barrier_destroy(&visitor.barrier);
  }
  ck_assert_uint_eq(mirt_safepoint_threads(visitor.safepoint), 1);
  mirt_safepoint_detach(visitor.safepoint);
  ck_assert_int_eq(mirt_safepoint_destroy(visitor.safepoint), 0);
  assert_no_errors();
}
END_TEST

/* ---- main ---- */

int main(void) {
  Suite *suite = suite_create("gc");
  TCase *graphs = case_begin(suite, "graphs");
  tcase_add_loop_test(graphs, test_graph, 0, 4);
  tcase_add_test(graphs, test_errors);
  TCase *stacks = case_begin(suite, "stacks");
  tcase_add_test(stacks, test_deep);
  tcase_add_loop_test(stacks, test_wide, 0, (int)COUNT_OF(trees));
  tcase_add_loop_test(stacks, test_overflow, 3, (int)COUNT_OF(trees));
  tcase_add_test(stacks, test_overflow_is_traced);
  TCase *words = case_begin(suite, "words");
  tcase_add_loop_test(words, test_find, 0, 2);
  tcase_add_test(words, test_conservative);
  tcase_add_test(words, test_stack);
  TCase *weak = case_begin(suite, "weak");
  tcase_add_test(weak, test_weak);
  tcase_add_loop_test(weak, test_ephemeron_chain, 0, 2);
  tcase_add_loop_test(weak, test_weak_model, 0, 2);
  tcase_add_test(weak, test_weak_owner);
  tcase_add_test(weak, test_weak_tables);
  tcase_add_test(weak, test_weak_errors);
  tcase_add_loop_test(weak, test_finalizer_and_ephemerons, 0, 4);
  tcase_add_test(weak, test_ephemeron_of_what_was_let_go);
  TCase *immediate = case_begin(suite, "immediate");
  tcase_add_loop_test(immediate, test_immediate, 0, (int)COUNT_OF(tagged_cases));
  TCase *finalizers = case_begin(suite, "finalizers");
  tcase_add_loop_test(finalizers, test_finalizers, 0, 3);
  tcase_add_test(finalizers, test_finalizers_later);
  tcase_add_test(finalizers, test_finalizer_keeps);
  tcase_add_test(finalizers, test_finalizer_collects);
  tcase_add_test(finalizers, test_finalizers_without_memory);
  TCase *steps = case_begin(suite, "steps");
  tcase_add_loop_test(steps, test_own_threads, 0, 4);
  tcase_add_test(steps, test_marker_without_thread);
  tcase_add_test(steps, test_sweep_in_steps);
  tcase_add_test(steps, test_lazy_gives_back);
  tcase_add_test(steps, test_lazy_and_the_world);
  TCase *world = case_begin(suite, "world");
  tcase_add_test(world, test_safepoint_alone);
  tcase_add_test(world, test_safepoint_crew);
  tcase_add_test(world, test_safepoint_race);
  tcase_add_loop_test(world, test_safepoint_request_waits, 0, 4);
  tcase_add_test(world, test_safepoint_waits);
  return suite_run(suite);
}
