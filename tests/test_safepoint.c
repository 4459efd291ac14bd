/* test_safepoint.c - the stacks of stopped threads: objects to which nothing refers but a
 * local variable or a register of a thread that has stopped, in each way that it can,
 * live, and those of threads that are not to be looked at do not; requests that nest, and
 * what the thread that stopped the world may do. Safepoints without stacks are tested by
 * test_gc.c, too.
 *
 * Words on a stack are taken for references conservatively, so what is left there by
 * chance may keep an object: tests require that most die, and all live which have to.
 */
#include "test.h"

#include <sched.h>

#include <mirt.h>

#define COUNT_OF(array) (sizeof(array) / sizeof((array)[0]))
#define KiB ((size_t)1024)
#define MiB (KiB * KiB)

/* ---- helpers ---- */

/* For threads, where Check does not hear of a failure: end the process. */
static _Noreturn void require_failed(int line, const char *text) {
  dprintf(STDERR_FILENO, "test_safepoint.c:%d: '%s' is false\n", line, text);
  abort();
}

#define require(x) \
  do { \
    if (!(x)) require_failed(__LINE__, #x); \
  } while (0)

static mirt_runtime_t *runtime_with(const mirt_runtime_options_t *options) {
  mirt_runtime_t *runtime = NULL;
  require(mirt_runtime_create(options, &runtime) == 0);
  return runtime;
}

static mirt_runtime_t *runtime_plain(void) {
  return runtime_with(&(mirt_runtime_options_t){.size = 256 * MiB});
}

static mirt_type_t *type_with(mirt_runtime_t *runtime,
                              const mirt_type_options_t *options) {
  mirt_type_t *type = mirt_type_new(runtime, options);
  require(type != NULL);
  return type;
}

static mirt_mutator_t *mutator_bound(mirt_runtime_t *runtime) {
  mirt_mutator_t *mutator = mirt_mutator_create_in(runtime);
  require(mutator != NULL);
  require(mirt_mutator_bind(mutator) == 0);
  return mutator;
}

static bool is_object(const mirt_runtime_t *runtime, const void *p) {
  mirt_found_t found;
  return mirt_find(runtime, (uintptr_t)p, &found) && found.object == p;
}

static bool is_requested(const mirt_safepoint_t *safepoint) {
  return AO_load(&((const mirt_safepoint_flag_t *)safepoint)->is_requested) != 0;
}

static void await(atomic_word *word, uintptr_t least) {
  while (atomic_load_acquire(word) < least) sched_yield();
}

static void await_polling(mirt_safepoint_t *safepoint, atomic_word *word,
                          uintptr_t least) {
  while (atomic_load_acquire(word) < least) {
    mirt_safepoint_poll(safepoint);
    sched_yield();
  }
}

/* Functions that hold objects are not instrumented: a sanitizer would put their variables
 * elsewhere. */
#define PLAIN __attribute__((noinline, no_sanitize("address", "thread", "undefined")))

/* Overwrite what functions have left below the caller's frame. */
PLAIN static void clear_stack(void) {
  volatile char below[16 * KiB];
  for (size_t i = 0; i < sizeof below; i++) below[i] = 0;
}

/* ---- objects in frames and registers ---- */

/* Objects of a thread, written down as the complement of their addresses, so that no
 * other word in memory refers to them. */
#define HELD 32

struct member {
  struct party *party;
  mirt_mutator_t *mutator;
  int way;
  size_t count; /* of the objects */
  uintptr_t disguised[HELD];
};

#define MEMBERS 3

/* Some threads that hold objects, and one that collects. */
struct party {
  mirt_runtime_t *runtime;
  mirt_type_t *type;
  mirt_safepoint_t *safepoint;
  atomic_word ready, gone; /* how many have come so far, over all rounds */
  atomic_word phase;       /* odd: let go of the objects of the round */
  size_t rounds;
  struct member members[MEMBERS];
};

/* Not inlined, so that no address stays in the frame of a caller. */
PLAIN static void member_make_objects(struct member *member) {
  for (size_t i = 0; i < member->count; i++) {
    uintptr_t *p = mirt_new_zeroed(member->mutator, member->party->type);
    require(p != NULL);
    p[1] = ~(uintptr_t)p; /* no reference */
    member->disguised[i] = ~(uintptr_t)p;
  }
}

static size_t member_objects_left(const struct member *member) {
  size_t left = 0;
  for (size_t i = 0; i < member->count; i++) {
    const uintptr_t *p = (const uintptr_t *)~member->disguised[i];
    if (!is_object(member->party->runtime, p)) continue;
    require(p[0] == 0 && p[1] == member->disguised[i]);
    left++;
  }
  return left;
}

enum way {
  POLL,     /* stops by polling */
  LEAVE,    /* has left */
  LOST,     /* requests, when another has */
  CALL,     /* calls mirt_safepoint_stop */
  COLLECTS, /* requests first, and collects itself */
  PLAINLY,  /* polls, but is not attached with its stack */
  DETACHED, /* is not attached any more */
  WAYS
};

static bool way_keeps(int way) { return way < PLAINLY; }

static void await_request(mirt_safepoint_t *safepoint) {
  while (!is_requested(safepoint)) sched_yield();
}

static void mark_stacks(mirt_marker_t *marker, void *argument) {
  (void)mirt_safepoint_mark_stacks(argument, marker);
}

static void party_collect(struct party *party) {
  require(mirt_collect(party->runtime, mark_stacks, party->safepoint, NULL, NULL) == 0);
}

static void leave_and_stay(struct member *member) {
  struct party *party = member->party;
  const uintptr_t phase = atomic_load_acquire(&party->phase) | 1;
  mirt_safepoint_leave(party->safepoint);
  clear_stack(); /* nothing is saved there that is needed */
  atomic_fetch_add_full(&party->ready, 1);
  await(&party->phase, phase);
  mirt_safepoint_enter(party->safepoint);
}

/* Stop in the member's way, until others have collected. */
static void member_stop(struct member *member) {
  struct party *party = member->party;
  mirt_safepoint_t *safepoint = party->safepoint;
  const uintptr_t phase = atomic_load_acquire(&party->phase) | 1;
  switch ((enum way)member->way) {
    case LEAVE: leave_and_stay(member); break;
    case LOST:
      atomic_fetch_add_full(&party->ready, 1);
      await_request(safepoint);
      require(!mirt_safepoint_request(safepoint));
      break;
    case CALL:
      atomic_fetch_add_full(&party->ready, 1);
      await_request(safepoint);
      mirt_safepoint_stop(safepoint);
      break;
    case COLLECTS:
      require(mirt_safepoint_request(safepoint));
      party_collect(party);
      require(member_objects_left(member) == member->count);
      mirt_safepoint_resume(safepoint);
      atomic_fetch_add_full(&party->ready, 1);
      break;
    case DETACHED:
      mirt_safepoint_detach(safepoint);
      atomic_fetch_add_full(&party->ready, 1);
      await(&party->phase, phase);
      return;
    case POLL:
    case PLAINLY:
    default: atomic_fetch_add_full(&party->ready, 1); break;
  }
  await_polling(safepoint, &party->phase, phase);
}

/* Hold one object in each of many frames, not always by its first byte. */
PLAIN static void member_hold(struct member *member, size_t i) {
  volatile uintptr_t local = ~member->disguised[i] + i % 16;
  if (i + 1 < member->count) {
    member_hold(member, i + 1);
  } else {
    member_stop(member);
  }
  require(local == ~member->disguised[i] + i % 16); /* it is needed until here */
  local = 0;
}

PLAIN static void member_rounds(struct member *member) {
  struct party *party = member->party;
  for (size_t round = 0; round < party->rounds; round++) {
    member_make_objects(member);
    clear_stack();
    member_hold(member, 0);
    clear_stack();
    if (member->way == DETACHED) { /* with another bottom than before */
      require(mirt_safepoint_attach_stack(party->safepoint, __builtin_frame_address(0)) ==
              0);
    }
    atomic_fetch_add_full(&party->gone, 1);
    await_polling(party->safepoint, &party->phase, 2 * round + 2);
  }
}

static void *member_main(void *argument) {
  struct member *member = argument;
  mirt_safepoint_t *safepoint = member->party->safepoint;
  if (member->way == PLAINLY) {
    mirt_safepoint_attach(safepoint);
  } else {
    require(mirt_safepoint_attach_stack(safepoint, __builtin_frame_address(0)) == 0);
  }
  member->mutator = mutator_bound(member->party->runtime);
  member_rounds(member);
  require(mirt_mutator_unbind(member->mutator) == 0);
  mirt_safepoint_detach(safepoint);
  return NULL;
}

static void party_begin(struct party *party, size_t rounds) {
  memset(party, 0, sizeof *party);
  party->runtime = runtime_plain();
  party->type = type_with(party->runtime, &(mirt_type_options_t){.size = 16});
  party->safepoint = mirt_safepoint_create();
  party->rounds = rounds;
  mirt_safepoint_attach(party->safepoint);
}

static void party_end(struct party *party) {
  mirt_safepoint_detach(party->safepoint);
  ck_assert_int_eq(mirt_safepoint_destroy(party->safepoint), 0);
  ck_assert_int_eq(mirt_runtime_destroy(party->runtime), 0);
}

/* What each round does in the thread that collects: all that is held lives; then most of
 * it is gone. */
static void party_round(struct party *party, size_t round) {
  struct member *members = party->members;
  await_polling(party->safepoint, &party->ready, MEMBERS * (round + 1));
  require(mirt_safepoint_request(party->safepoint));
  party_collect(party);
  for (size_t i = 0; i < MEMBERS; i++) {
    const size_t left = member_objects_left(&members[i]);
    if (way_keeps(members[i].way)) {
      ck_assert_uint_eq(left, members[i].count);
    } else {
      ck_assert_uint_le(left, members[i].count / 4);
    }
  }
  mirt_safepoint_resume(party->safepoint);
  atomic_store_release(&party->phase, 2 * round + 1);
  await(&party->gone, MEMBERS * (round + 1));
  require(mirt_safepoint_request(party->safepoint));
  party_collect(party);
  size_t count = 0, left = 0;
  for (size_t i = 0; i < MEMBERS; i++) {
    count += members[i].count;
    left += member_objects_left(&members[i]);
  }
  if (count > HELD) ck_assert_uint_le(left, count / 4);
  mirt_safepoint_resume(party->safepoint);
  atomic_store_release(&party->phase, 2 * round + 2);
}

/* Loop test: in each way, beside a thread that stops in another one. */
START_TEST(test_frames) {
  static struct party party;
  party_begin(&party, (size_t)TEST_ROUNDS(40));
  pthread_t threads[MEMBERS];
  for (size_t i = 0; i < MEMBERS; i++) {
    struct member *member = &party.members[i];
    member->party = &party;
    member->count = HELD;
    member->way = i == 0 ? _i : (int)(i == 1 ? POLL : LEAVE);
    ck_assert_int_eq(pthread_create(&threads[i], NULL, member_main, member), 0);
  }
  for (size_t round = 0; round < party.rounds; round++) party_round(&party, round);
  for (size_t i = 0; i < MEMBERS; i++) {
    mirt_safepoint_leave(party.safepoint);
    ck_assert_int_eq(pthread_join(threads[i], NULL), 0);
    mirt_safepoint_enter(party.safepoint);
  }
  /* Their stacks are not looked at any more: they may not even be there. */
  ck_assert_uint_eq(mirt_safepoint_threads(party.safepoint), 1);
  ck_assert(mirt_safepoint_request(party.safepoint));
  party_collect(&party);
  mirt_safepoint_resume(party.safepoint);
  party_end(&party);
  assert_no_errors();
}
END_TEST

#if defined(__x86_64__)
/* with_register(function, argument, disguised, number): call the function with the object
 * in one of the registers that it has to keep, and nowhere else. */
void with_register(void (*function)(void *), void *argument, uintptr_t disguised,
                   long number);
__asm__(".text\n.globl with_register\n.type with_register, @function\nwith_register:\n"
        "\tpushq %rbx\n\tpushq %rbp\n\tpushq %r12\n\tpushq %r13\n\tpushq %r14\n"
        "\tpushq %r15\n\tsubq $8, %rsp\n"
        "\tmovq $0, (%rsp)\n"
        "\tmovq %rdi, %rax\n\tmovq %rsi, %rdi\n"
        "\tnotq %rdx\n"
        "\txorl %ebx, %ebx\n\txorl %ebp, %ebp\n\txorl %r12d, %r12d\n"
        "\txorl %r13d, %r13d\n\txorl %r14d, %r14d\n\txorl %r15d, %r15d\n"
        "\tcmpq $0, %rcx\n\tcmoveq %rdx, %rbx\n"
        "\tcmpq $1, %rcx\n\tcmoveq %rdx, %rbp\n"
        "\tcmpq $2, %rcx\n\tcmoveq %rdx, %r12\n"
        "\tcmpq $3, %rcx\n\tcmoveq %rdx, %r13\n"
        "\tcmpq $4, %rcx\n\tcmoveq %rdx, %r14\n"
        "\tcmpq $5, %rcx\n\tcmoveq %rdx, %r15\n"
        "\txorl %edx, %edx\n"
        "\tcall *%rax\n"
        "\taddq $8, %rsp\n\tpopq %r15\n\tpopq %r14\n\tpopq %r13\n\tpopq %r12\n"
        "\tpopq %rbp\n\tpopq %rbx\n\tret\n.size with_register, .-with_register\n");
#define KEPT_REGISTERS 6

PLAIN static void poll_here(void *safepoint) { mirt_safepoint_poll(safepoint); }

PLAIN static void stop_here(void *safepoint) { mirt_safepoint_stop(safepoint); }

PLAIN static void lose_here(void *safepoint) {
  require(!mirt_safepoint_request(safepoint));
}

PLAIN static void leave_here(void *member) { leave_and_stay(member); }

PLAIN static void collect_here(void *member) {
  struct party *party = ((struct member *)member)->party;
  require(mirt_safepoint_request(party->safepoint));
  party_collect(party);
  for (size_t i = 0; i < MEMBERS; i++) {
    require(member_objects_left(&party->members[i]) == 1);
  }
  mirt_safepoint_resume(party->safepoint);
}

/* Stop with the object of the round in a register. */
PLAIN static void member_stop_with_register(struct member *member, long number) {
  struct party *party = member->party;
  mirt_safepoint_t *safepoint = party->safepoint;
  const uintptr_t hidden = member->disguised[0];
  const uintptr_t phase = atomic_load_acquire(&party->phase) | 1;
  if (member->way == LEAVE) {
    with_register(leave_here, member, hidden, number);
  } else if (member->way == COLLECTS) {
    await(&party->ready, MEMBERS * (phase / 2) + MEMBERS - 1);
    with_register(collect_here, member, hidden, number);
    atomic_fetch_add_full(&party->ready, 1);
  } else {
    atomic_fetch_add_full(&party->ready, 1);
    await_request(safepoint);
    with_register(member->way == POLL   ? poll_here
                  : member->way == CALL ? stop_here
                                        : lose_here,
                  safepoint, hidden, number);
  }
  await_polling(safepoint, &party->phase, phase);
}

PLAIN static void registered_rounds(struct member *member) {
  struct party *party = member->party;
  for (size_t round = 0; round < party->rounds; round++) {
    member_make_objects(member);
    clear_stack();
    member_stop_with_register(member, (long)(round % KEPT_REGISTERS));
    clear_stack();
    atomic_fetch_add_full(&party->gone, 1);
    await_polling(party->safepoint, &party->phase, 2 * round + 2);
  }
}

static void *registered_main(void *argument) {
  struct member *member = argument;
  mirt_safepoint_t *safepoint = member->party->safepoint;
  require(mirt_safepoint_attach_stack(safepoint, __builtin_frame_address(0)) == 0);
  member->mutator = mutator_bound(member->party->runtime);
  registered_rounds(member);
  require(mirt_mutator_unbind(member->mutator) == 0);
  mirt_safepoint_detach(safepoint);
  return NULL;
}

/* Objects that nothing refers to but a register of a stopped thread. */
START_TEST(test_registers) {
  static struct party party;
  party_begin(&party, 3 * KEPT_REGISTERS);
  pthread_t threads[MEMBERS];
  for (size_t i = 0; i < MEMBERS; i++) {
    struct member *member = &party.members[i];
    member->party = &party;
    member->count = 1;
    member->way = i == 0 ? _i : POLL;
    ck_assert_int_eq(pthread_create(&threads[i], NULL, registered_main, member), 0);
  }
  for (size_t round = 0; round < party.rounds; round++) {
    await_polling(party.safepoint, &party.ready, MEMBERS * (round + 1));
    if (_i == COLLECTS) {
      atomic_store_release(&party.phase, 2 * round + 1);
      await_polling(party.safepoint, &party.gone, MEMBERS * (round + 1));
      atomic_store_release(&party.phase, 2 * round + 2);
    } else {
      party_round(&party, round);
    }
  }
  for (size_t i = 0; i < MEMBERS; i++) {
    mirt_safepoint_leave(party.safepoint);
    ck_assert_int_eq(pthread_join(threads[i], NULL), 0);
    mirt_safepoint_enter(party.safepoint);
  }
  party_end(&party);
  assert_no_errors();
}
END_TEST
#endif

/* ---- a collection in turn from each ---- */

#define TURNS 4

struct turn_taker {
  struct turns *turns;
  mirt_mutator_t *mutator;
  size_t number;
  uintptr_t disguised[HELD]; /* of this round */
  uintptr_t before[HELD];    /* of the one before */
};

struct turns {
  mirt_runtime_t *runtime;
  mirt_type_t *type;
  mirt_safepoint_t *safepoint;
  atomic_word prepared; /* takers that have come, over all rounds */
  atomic_word round;    /* collections so far */
  size_t left;          /* objects of rounds before, over all; world stopped */
  struct turn_taker takers[TURNS];
};

static bool is_left(const struct turns *turns, uintptr_t disguised) {
  const uintptr_t *p = (const uintptr_t *)~disguised;
  return is_object(turns->runtime, p) && p[1] == disguised;
}

static void turns_collect(struct turns *turns, size_t round) {
  mirt_gc_stats_t stats;
  const mirt_gc_options_t options = {.markers = 1 + (unsigned)round % 2,
                                     .is_lazy = round % 3 == 0};
  require(mirt_collect(turns->runtime, mark_stacks, turns->safepoint, &options, &stats) ==
          0);
  require(stats.live_objects >= TURNS * HELD);
  require(stats.live_objects <= TURNS * HELD * 3);
  while (mirt_gc_sweep(turns->runtime, 100) != 0) continue;
  for (size_t i = 0; i < TURNS; i++) {
    const struct turn_taker *taker = &turns->takers[i];
    for (size_t k = 0; k < HELD; k++) {
      require(is_left(turns, taker->disguised[k]));
      if (round > 0) turns->left += is_left(turns, taker->before[k]);
    }
  }
}

static void turn_take(struct turn_taker *taker, size_t round) {
  struct turns *turns = taker->turns;
  mirt_safepoint_t *safepoint = turns->safepoint;
  atomic_fetch_add_full(&turns->prepared, 1);
  if (taker->number == round % TURNS) {
    await_polling(safepoint, &turns->prepared, TURNS * (round + 1));
    require(mirt_safepoint_request(safepoint));
    turns_collect(turns, round);
    mirt_safepoint_resume(safepoint);
    atomic_store_release(&turns->round, round + 1);
  } else if ((taker->number + round / TURNS) % 2 == 0) {
    mirt_safepoint_leave(safepoint);
    await(&turns->round, round + 1);
    mirt_safepoint_enter(safepoint);
  } else {
    await_polling(safepoint, &turns->round, round + 1);
  }
}

PLAIN static void turn_hold(struct turn_taker *taker, size_t round) {
  volatile uintptr_t locals[HELD];
  for (size_t i = 0; i < HELD; i++) locals[i] = ~taker->disguised[i];
  turn_take(taker, round);
  for (size_t i = 0; i < HELD; i++) require(locals[i] == ~taker->disguised[i]);
  for (size_t i = 0; i < HELD; i++) locals[i] = 0;
}

PLAIN static void turn_prepare(struct turn_taker *taker) {
  memcpy(taker->before, taker->disguised, sizeof taker->before);
  for (size_t i = 0; i < HELD; i++) {
    uintptr_t *p = mirt_new_zeroed(taker->mutator, taker->turns->type);
    require(p != NULL);
    p[1] = taker->disguised[i] = ~(uintptr_t)p;
  }
}

PLAIN static void turns_take(struct turn_taker *taker, size_t rounds) {
  for (size_t round = 0; round < rounds; round++) {
    turn_prepare(taker);
    clear_stack();
    turn_hold(taker, round);
    clear_stack();
    mirt_safepoint_poll(taker->turns->safepoint);
  }
}

#define TURN_ROUNDS ((size_t)TEST_ROUNDS(400))

static void *take_turns(void *argument) {
  struct turn_taker *taker = argument;
  mirt_safepoint_t *safepoint = taker->turns->safepoint;
  require(mirt_safepoint_attach_stack(safepoint, __builtin_frame_address(0)) == 0);
  taker->mutator = mutator_bound(taker->turns->runtime);
  turns_take(taker, TURN_ROUNDS);
  require(mirt_mutator_unbind(taker->mutator) == 0);
  mirt_safepoint_detach(safepoint);
  return NULL;
}

START_TEST(test_turns) {
  static struct turns turns;
  memset(&turns, 0, sizeof turns);
  turns.runtime = runtime_plain();
  turns.type = type_with(turns.runtime, &(mirt_type_options_t){.size = 16});
  turns.safepoint = mirt_safepoint_create();
  for (size_t i = 0; i < TURNS; i++) {
    turns.takers[i].turns = &turns;
    turns.takers[i].number = i;
  }
  threads_run(TURNS, take_turns, turns.takers, sizeof turns.takers[0]);
  ck_assert_uint_eq(atomic_load_acquire(&turns.round), TURN_ROUNDS);
  ck_assert_uint_le(turns.left, TURN_ROUNDS * TURNS * HELD / 4);
  ck_assert_int_eq(mirt_safepoint_destroy(turns.safepoint), 0);
  ck_assert_int_eq(mirt_runtime_destroy(turns.runtime), 0);
  assert_no_errors();
}
END_TEST

/* ---- what the thread that stopped the world may do ---- */

struct walker {
  mirt_safepoint_t *safepoint;
  atomic_word walked, stop;
  size_t steps; /* not atomic */
  bool leaves;
};

static void *walk(void *argument) {
  struct walker *walker = argument;
  mirt_safepoint_attach(walker->safepoint);
  while (atomic_load_acquire(&walker->stop) == 0) {
    walker->steps++;
    atomic_fetch_add_full(&walker->walked, 1);
    if (walker->leaves) {
      mirt_safepoint_leave(walker->safepoint);
      sched_yield();
      mirt_safepoint_enter(walker->safepoint);
    } else {
      mirt_safepoint_poll(walker->safepoint);
      sched_yield();
    }
  }
  mirt_safepoint_detach(walker->safepoint);
  return NULL;
}

#define WALKERS 2

/* Nobody has moved since the world was stopped, though it has had time to. */
static void require_stopped(mirt_safepoint_t *safepoint, const struct walker *walkers,
                            const size_t *steps) {
  for (int i = 0; i < 20; i++) sched_yield();
  require(is_requested(safepoint));
  for (size_t i = 0; i < WALKERS; i++) require(walkers[i].steps == steps[i]);
}

/* Requests nest, to any depth, and so do polls and calls that block between them. */
START_TEST(test_nested) {
  mirt_safepoint_t *safepoint = mirt_safepoint_create();
  static struct walker walkers[WALKERS];
  pthread_t threads[WALKERS];
  ck_assert_int_eq(mirt_safepoint_attach_stack(safepoint, __builtin_frame_address(0)), 0);
  for (size_t i = 0; i < WALKERS; i++) {
    walkers[i] = (struct walker){.safepoint = safepoint, .leaves = i == 0};
    ck_assert_int_eq(pthread_create(&threads[i], NULL, walk, &walkers[i]), 0);
  }
  for (int round = 0; round < TEST_ROUNDS(60); round++) {
    for (size_t i = 0; i < WALKERS; i++) { /* they go on */
      const uintptr_t walked = atomic_load_acquire(&walkers[i].walked);
      await(&walkers[i].walked, walked + 1);
    }
    ck_assert(mirt_safepoint_request(safepoint));
    size_t steps[WALKERS];
    for (size_t i = 0; i < WALKERS; i++) steps[i] = walkers[i].steps;
    const int depth = 1 + round % 5;
    for (int i = 1; i < depth; i++) {
      mirt_safepoint_poll(safepoint);
      ck_assert(mirt_safepoint_request(safepoint));
      require_stopped(safepoint, walkers, steps);
    }
    mirt_safepoint_stop(safepoint);
    mirt_safepoint_leave(safepoint);
    require_stopped(safepoint, walkers, steps);
    mirt_safepoint_enter(safepoint);
    for (int i = 1; i < depth; i++) {
      mirt_safepoint_resume(safepoint);
      mirt_safepoint_poll(safepoint);
      mirt_safepoint_leave(safepoint);
      mirt_safepoint_enter(safepoint);
      require_stopped(safepoint, walkers, steps);
    }
    ck_assert_uint_eq(mirt_safepoint_threads(safepoint), WALKERS + 1);
    mirt_safepoint_resume(safepoint);
  }
  ck_assert_int_eq(mirt_safepoint_destroy(safepoint), EBUSY);
  assert_errors(EBUSY, 1);
  for (size_t i = 0; i < WALKERS; i++) atomic_store_release(&walkers[i].stop, 1);
  mirt_safepoint_leave(safepoint);
  for (size_t i = 0; i < WALKERS; i++) {
    ck_assert_int_eq(pthread_join(threads[i], NULL), 0);
  }
  mirt_safepoint_enter(safepoint);
  ck_assert_int_eq(mirt_safepoint_destroy(safepoint), EBUSY); /* by this thread */
  assert_errors(EBUSY, 1);
  ck_assert_uint_eq(mirt_safepoint_threads(safepoint), 1);
  mirt_safepoint_detach(safepoint);
  ck_assert_int_eq(mirt_safepoint_destroy(safepoint), 0);
  assert_no_errors();
}
END_TEST

/* ---- finalizers that come to the limit ---- */

#define SOFT_LIMIT (256 * KiB)
#define KEPT 50

struct estate {
  mirt_runtime_t *runtime;
  mirt_type_t *mortal, *plain;
  mirt_safepoint_t *safepoint;
  atomic_word finalized, collections, nested, refused;
  bool is_finalizing; /* not atomic: by the thread that has stopped the world */
};

/* The thread that runs a finalizer allocates with its own mutator. */
static __thread mirt_mutator_t *own_mutator;
static __thread size_t own_depth;

static void estate_collect(struct estate *estate) {
  require(mirt_collect(estate->runtime, mark_stacks, estate->safepoint, NULL, NULL) == 0);
  atomic_fetch_add_full(&estate->collections, 1);
}

static void estate_limit(mirt_runtime_t *runtime, size_t live, const mirt_type_t *type,
                         void *argument) {
  struct estate *estate = argument;
  (void)live, (void)type;
  if (!mirt_safepoint_request(estate->safepoint)) {
    require(own_depth == 0); /* who has stopped the world is never refused */
    atomic_fetch_add_full(&estate->refused, 1);
    return;
  }
  require(runtime == estate->runtime);
  if (own_depth != 0) atomic_fetch_add_full(&estate->nested, 1);
  estate_collect(estate);
  mirt_safepoint_resume(estate->safepoint);
}

/* Each allocates, so that those of one collection come to the limit, and reads its own
 * object again. */
static bool estate_finalize(void *object, size_t size, void *argument) {
  struct estate *estate = argument;
  uintptr_t *p = object;
  require(is_requested(estate->safepoint));          /* the world is stopped */
  require(own_depth == 0 && !estate->is_finalizing); /* one after the other */
  require(p[0] == ~(uintptr_t)p);
  own_depth++;
  estate->is_finalizing = true;
  for (int i = 0; i < 40; i++) {
    void *other = mirt_new_zeroed(own_mutator, estate->plain);
    require(other != NULL);
  }
  require(p[0] == ~(uintptr_t)p && size >= 16);
  p[0] = 0; /* not twice */
  own_depth--;
  estate->is_finalizing = false;
  atomic_fetch_add_full(&estate->finalized, 1);
  return false;
}

PLAIN static size_t estate_work(struct estate *estate) {
  volatile uintptr_t kept[KEPT];
  size_t made = 0;
  for (size_t i = 0; i < KEPT; i++) kept[i] = 0;
  for (int round = 0; round < TEST_ROUNDS(160); round++) {
    for (size_t i = 0; i < 400; i++) {
      const bool is_mortal = i % 8 == 0;
      uintptr_t *p =
          mirt_new_zeroed(own_mutator, is_mortal ? estate->mortal : estate->plain);
      require(p != NULL);
      p[0] = ~(uintptr_t)p;
      made += is_mortal;
      if (i % 16 == 0) kept[(i / 16 + (size_t)round) % KEPT] = (uintptr_t)p;
      mirt_safepoint_poll(estate->safepoint);
    }
    for (size_t i = 0; i < KEPT; i++) {
      const uintptr_t *p = (const uintptr_t *)kept[i];
      if (p != NULL) require(p[0] == ~(uintptr_t)p);
    }
  }
  for (size_t i = 0; i < KEPT; i++) kept[i] = 0;
  return made;
}

struct heir {
  struct estate *estate;
  size_t made;
};

static void *inherit(void *argument) {
  struct heir *heir = argument;
  struct estate *estate = heir->estate;
  require(mirt_safepoint_attach_stack(estate->safepoint, __builtin_frame_address(0)) ==
          0);
  own_mutator = mutator_bound(estate->runtime);
  heir->made = estate_work(estate);
  require(mirt_mutator_unbind(own_mutator) == 0);
  mirt_safepoint_detach(estate->safepoint);
  return NULL;
}

/* The callback of the soft limit, called from a finalizer, stops the world that is
 * stopped, and collects. */
START_TEST(test_finalizers_at_the_limit) {
  static struct estate estate;
  memset(&estate, 0, sizeof estate);
  estate.runtime = runtime_with(&(mirt_runtime_options_t){.size = 256 * MiB,
                                                          .soft_limit = SOFT_LIMIT,
                                                          .on_soft_limit = estate_limit,
                                                          .arg = &estate});
  estate.mortal = type_with(
      estate.runtime,
      &(mirt_type_options_t){.size = 48, .finalize = estate_finalize, .arg = &estate});
  estate.plain = type_with(estate.runtime, &(mirt_type_options_t){.size = 32});
  estate.safepoint = mirt_safepoint_create();
  struct heir heirs[2] = {{&estate, 0}, {&estate, 0}};
  threads_run((size_t)_i, inherit, heirs, sizeof heirs[0]);
  ck_assert_uint_ge(atomic_load_acquire(&estate.collections), 2);
  ck_assert_uint_ge(atomic_load_acquire(&estate.nested), 1);
  if (_i == 1) ck_assert_uint_eq(atomic_load_acquire(&estate.refused), 0);

  /* What lives yet dies now: each object was finalized once. */
  mirt_safepoint_attach(estate.safepoint);
  own_mutator = mutator_bound(estate.runtime);
  ck_assert(mirt_safepoint_request(estate.safepoint));
  estate_collect(&estate);
  mirt_safepoint_resume(estate.safepoint);
  ck_assert_uint_eq(atomic_load_acquire(&estate.finalized),
                    heirs[0].made + heirs[1].made);
  mirt_safepoint_detach(estate.safepoint);
  ck_assert_int_eq(mirt_mutator_unbind(own_mutator), 0);
  ck_assert_int_eq(mirt_safepoint_destroy(estate.safepoint), 0);
  ck_assert_int_eq(mirt_runtime_destroy(estate.runtime), 0);
  assert_no_errors();
}
END_TEST

/* ---- main ---- */

int main(void) {
  Suite *suite = suite_create("safepoint");
  TCase *stacks = case_begin(suite, "stacks");
  tcase_add_loop_test(stacks, test_frames, 0, WAYS);
#if defined(KEPT_REGISTERS)
  tcase_add_loop_test(stacks, test_registers, 0, PLAINLY);
#endif
  tcase_add_test(stacks, test_turns);
  TCase *world = case_begin(suite, "world");
  tcase_add_test(world, test_nested);
  tcase_add_loop_test(world, test_finalizers_at_the_limit, 1, 3);
  return suite_run(suite);
}
