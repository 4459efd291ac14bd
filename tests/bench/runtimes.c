/* The patterns of language runtimes without a collector: an interpreter's values and
   trees. algebra.c has the values with reference counts. */

#include "bench.h"

/* interpreter: a scripting language runs recursive functions. A call makes a frame and a
   few locals, evaluates an expression whose temporary values replace each other, and
   frees all of it in the reverse order when it returns. The result of one expression in
   four goes to a place where it stays for some thousand calls (a field of an object in
   use), that of one in 64 into the globals, of which there are enough to fill a
   second-level cache. Numbers are boxed, as in any simple interpreter, so that boxes are
   half of all values and more. */

enum {
  call_depth = 12, /* two calls each: 8191 for one from outside */
  call_rounds = 600,
  local_count = 4,
  temporary_count = 4,
  recent_count = 512,
  global_count = 32768,
  box_size = 16
};

struct machine {
  struct tally tally;
  struct random random;
  void **recent, **global;
};

/* Boxes; pairs; closures; strings of 8 to 47 characters and a length. */
static void *value_new(struct machine *machine, unsigned bits) {
  static const unsigned char sizes[] = {box_size, box_size, box_size, box_size,
                                        32,       32,       48,       0};
  size_t size = sizes[bits & 7];
  if (size == 0) size = 16 + 8 * (1 + (bits >> 3) % 5);
  return block_new(&machine->tally, size);
}

static void value_keep(struct machine *machine, void **slot, void *value) {
  if (*slot != NULL) block_delete(&machine->tally, *slot);
  *slot = value;
}

/* Hands a value on: it becomes part of something, or is dropped. */
static void value_pass(struct machine *machine, void *value, uint64_t bits) {
  if ((bits & 63) == 0)
    value_keep(machine, &machine->global[(bits >> 6) % global_count], value);
  else if ((bits & 3) == 0)
    value_keep(machine, &machine->recent[(bits >> 6) % recent_count], value);
  else
    block_delete(&machine->tally, value);
}

static void *function_call(struct machine *machine, unsigned depth) {
  uint64_t bits = random_next(&machine->random);
  void *frame = block_new(&machine->tally, (bits & 1) != 0 ? 96 : 64);
  void *locals[local_count];
  for (int i = 0; i < local_count; i++)
    locals[i] = value_new(machine, (unsigned)(bits >> (8 + 8 * i) & 0xFF));
  if (depth > 0) {
    for (int i = 0; i < 2; i++) {
      void *result = function_call(machine, depth - 1);
      block_delete(&machine->tally, locals[i]);
      locals[i] = result;
    }
  }
  bits = random_next(&machine->random);
  void *value = block_new(&machine->tally, box_size);
  for (int i = 0; i < temporary_count; i++) {
    void *next = value_new(machine, (unsigned)(bits >> (40 + 6 * i) & 0x3F));
    block_delete(&machine->tally, value);
    value = next;
  }
  value_pass(machine, value, bits & 0xFFFFFFFF);
  for (int i = local_count - 1; i >= 0; i--) block_delete(&machine->tally, locals[i]);
  block_delete(&machine->tally, frame);
  return block_new(&machine->tally, box_size);
}

void pattern_interpreter(struct run *run) {
  struct machine machine = {.random = random_seed(10)};
  machine.recent = array_map(recent_count, sizeof *machine.recent);
  machine.global = array_map(global_count, sizeof *machine.global);
  timer_start(run);
  for (int round = 0; round < call_rounds; round++)
    block_delete(&machine.tally, function_call(&machine, call_depth));
  timer_stop(run);
  run->operations = machine.tally.serial;
  blocks_delete(&machine.tally, machine.recent, recent_count);
  blocks_delete(&machine.tally, machine.global, global_count);
  run_add_tally(run, &machine.tally);
}

/* tree: the benchmark known as binary-trees. Trees are built from the leaves up by
   recursion and freed by recursion, so that a tree's nodes are freed in nearly the order
   in which they were allocated. A tree of two million nodes comes and goes first, then
   one of half a million stays while, for each depth, smaller ones are built and dropped:
   about eight million nodes for each depth. A node is two links and a word, 24 bytes, the
   most frequent size of trees and lists. */

enum { depth_first = 20, depth_long = 18, depth_step = 4, nodes_log = 22 };

struct tree {
  uint64_t stamp;
  struct tree *left, *right;
};

static struct tree *tree_new(struct tally *tally, unsigned depth) {
  struct tree *left = NULL, *right = NULL;
  if (depth > 0) {
    left = tree_new(tally, depth - 1);
    right = tree_new(tally, depth - 1);
  }
  struct tree *tree = malloc(sizeof *tree);
  if (tree == NULL) bench_fail("malloc: out of memory");
  *tree = (struct tree){stamp_make(tally->serial++, sizeof *tree), left, right};
  tally->written += tree->stamp;
  return tree;
}

static void tree_delete(struct tally *tally, struct tree *tree) {
  if (tree->left != NULL) {
    tree_delete(tally, tree->left);
    tree_delete(tally, tree->right);
  }
  if (tree->stamp != stamp_make(stamp_serial(tree->stamp), sizeof *tree))
    bench_fail("a node has changed");
  tally->found += tree->stamp;
  free(tree);
}

void pattern_tree(struct run *run) {
  struct tally tally = {0};
  timer_start(run);
  tree_delete(&tally, tree_new(&tally, depth_first));
  struct tree *kept = tree_new(&tally, depth_long);
  for (unsigned depth = depth_step; depth <= depth_long; depth += depth_step) {
    for (unsigned i = 0; i < 1u << (nodes_log - depth); i++)
      tree_delete(&tally, tree_new(&tally, depth));
  }
  timer_stop(run);
  run->operations = tally.serial;
  tree_delete(&tally, kept);
  run_add_tally(run, &tally);
}
