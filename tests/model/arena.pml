/* arena.pml - slices, the set of open arenas, read sections, and the end of an arena.
 *
 * One arena of two slices, each in a word of its own, that serves everybody. At the start a
 * page without an owner lies in the first slice if there are threads that free: each has
 * one block of it, and who finds the page empty gives the slice back. Others walk over the
 * open arenas and take slices, purge, look at the arena by its id, or give it up.
 *
 * One step is one operation on a shared variable. Operations that are "full" in
 * runtime/base/atomic.h are taken in program order. WEAK_ variants let a load overtake the
 * store before it, which is what processors do without a full barrier.
 *
 *   FREERS, WALKERS, PURGERS, VIEWERS, DESTROYERS   how many threads of each kind
 *   PARITY   walkers have no record: they count themselves in under the parity of an epoch
 *   WAITER   with PARITY: a thread that waits for readers because of another arena
 *
 * Errors to be found:
 *
 *   NO_WAIT             the arena goes away without waiting for the readers
 *   WAIT_FIRST          who destroys waits, then makes the arena unreachable
 *   NO_FREE_SECTION     who frees opens no read section
 *   LATE_FREE_SECTION   who frees opens it after the bit is set
 *   NO_RELEASE_SECTION  who gives slices back opens none
 *   NO_VIEW_SECTION     who enters a view opens none
 *   NO_VIEWS            who destroys does not wait for the views
 *   WEAK_SECTION        the load of the table may overtake the store that opens a section
 *   WEAK_WAIT           the loads of the sections may overtake the store of the table
 *   WEAK_PARITY         the load of the table may overtake the store that counts in
 *   ONE_PARITY          who waits for those without a record does so for one parity only
 *   SETS_FIRST          the arena leaves its sets before the wait for the readers
 *   NO_SECOND_LOOK      who takes the arena out of the set does not look again
 *   LOOKS_FIRST         looks again, then takes it out
 *   WEAK_LEAVE          the second look may overtake the store that takes it out
 *   WEAK_GIVE           the look at the set may overtake the store that gives a slice back
 *   NO_HOLD             who purges does not say that it holds slices
 *   NO_HOLD_COUNT       who finds no slice asks only whether somebody holds some now
 */
#ifndef FREERS
#define FREERS 0
#endif
#ifndef WALKERS
#define WALKERS 0
#endif
#ifndef PURGERS
#define PURGERS 0
#endif
#ifndef VIEWERS
#define VIEWERS 0
#endif
#ifndef DESTROYERS
#define DESTROYERS 0
#endif

#define SLICES 2
#define THREADS 7
#define ALL ((1 << FREERS) - 1)

/* The table's entry for the arena's id. */
#define VACANT 0
#define ARENA 1
#define ENDING 2
byte table = ARENA;

/* The arena. */
bit used[SLICES];
bit open = 1;     /* in the set of open arenas */
bit closed = 0;   /* users: it is being destroyed */
byte views = 0;   /* users: views */
byte holders = 0; /* holding, lower half */

/* The upper half of holding counts. All that is asked of it is whether it is still what it
 * was: a bit for each thread says so. */
bit calm[THREADS];

/* The page in the first slice: the xfree plane, the flag, the state. */
byte xf = 0;
bit flag = 0;
bit claimed = 0;

bit section[THREADS];
bit epoch = 0;        /* its parity */
byte counted[2];      /* sections of threads without a record, by parity */
bit waiting = 0;      /* a thread waits for those */

/* What is so, whatever the variables say. */
bit mapped = 1;
bit real[SLICES];         /* used for more than a moment */
bit was_real[2 * SLICES]; /* since walker 2, and walker 3, began to search */
bit any_real;             /* since who destroys began to claim */
byte done = 0;

/* In front of each look at the arena or its metadata. */
#define TOUCH assert(mapped)
#define FREE_SLICE (!used[0] || !used[1])

inline hold_changed(by) {
  i = 0;
  do
  :: i < THREADS ->
     if
     :: i != by -> calm[i] = 0
     :: else
     fi;
     i++
  :: else -> break
  od;
  i = 0
}

inline hold_begin() {
  d_step { TOUCH; holders++; hold_changed(me) }
}

inline hold_end() {
  d_step { TOUCH; holders--; hold_changed(me) }
}

inline keep(n) {
  real[n] = 1;
  was_real[n] = 1;
  was_real[SLICES + n] = 1;
  any_real = 1
}

/* Turn the bit of slice n from 0 to 1: sets ok. to_keep: for more than a moment. */
inline claim_slice(n, to_keep) {
  d_step {
    TOUCH;
    ok = !used[n];
    used[n] = 1;
    if
    :: ok && to_keep -> keep(n)
    :: else
    fi
  }
}

inline clear_slice(n) {
  d_step {
    TOUCH;
    assert(used[n]); /* what is given back was used */
    used[n] = 0;
    real[n] = 0
  }
}

/* arena_set_add, after a full operation. */
inline set_add() {
  d_step { TOUCH; ok = open }
  if
  :: !ok -> d_step { TOUCH; open = 1 }
  :: else
  fi;
  ok = 0
}

/* Clear the bit of slice n, then arena_search_from. */
inline give_back(n) {
#ifdef WEAK_GIVE
  if
  :: ok = open;
     clear_slice(n);
     if
     :: !ok -> open = 1
     :: else
     fi;
     ok = 0
  :: clear_slice(n);
     set_add()
  fi
#else
  clear_slice(n);
  set_add()
#endif
}

/* arena_release_slices: opens a section if none is open. */
inline release_slice(n) {
#ifdef NO_RELEASE_SECTION
  nested = 1;
#else
  d_step { nested = section[me]; section[me] = 1 }
#endif
  give_back(n);
  d_step {
    if
    :: !nested -> section[me] = 0
    :: else
    fi;
    nested = 0
  }
}

/* Walkers with a record or without. */
#ifdef PARITY
#define ENTER parity = epoch; counted[parity]++
#define LEAVE counted[parity]--; parity = 0
#else
#define ENTER section[me] = 1
#define LEAVE section[me] = 0
#endif

/* wait_by_parity */
inline wait_by_parity() {
  d_step { !waiting -> waiting = 1 }
  d_step { i = epoch; epoch = 1 - epoch }
  (counted[i] == 0);
#ifndef ONE_PARITY
  d_step { i = epoch; epoch = 1 - epoch }
  (counted[i] == 0);
#endif
  d_step { waiting = 0; i = 0 }
}

/* readers_wait. A section that ends and another that begins are as good as one moment
 * without. */
inline readers_wait() {
  i = 0;
  do
  :: i < THREADS ->
     if
     :: i != me -> (section[i] == 0)
     :: else
     fi;
     i++
  :: else -> break
  od;
  i = 0;
#ifdef PARITY
  wait_by_parity()
#endif
}

/* readers_are_gone: sets ok. It may give up at any time. */
inline look_at_readers() {
  i = 0;
  ok = 1;
  do
  :: i < THREADS && ok ->
     if
     :: i == me || section[i] == 0
     :: ok = 0
     fi;
     i++
  :: else -> break
  od;
  i = 0;
#ifdef PARITY
  if
  :: ok -> ok = (counted[0] == 0)
  :: else
  fi;
  if
  :: ok -> ok = (counted[1] == 0)
  :: else
  fi
#endif
}

/* free_remote, the last part of page_claim_if_empty, and page_release. */
proctype Freer(byte me) {
  bit ok, yes, nested;
  byte i;
#if !defined(NO_FREE_SECTION) && !defined(LATE_FREE_SECTION)
  section[me] = 1;
#endif
  d_step { TOUCH; xf = xf | (1 << me) }
#ifdef LATE_FREE_SECTION
  section[me] = 1;
#endif
  d_step { TOUCH; yes = flag }
  if
  :: !yes -> d_step { TOUCH; flag = 1 }
  :: else
  fi;
  d_step { TOUCH; yes = !claimed } /* load of the state */
  if
  :: yes -> d_step { TOUCH; yes = (xf == ALL) }
  :: else
  fi;
  if
  :: yes ->
     d_step { TOUCH; yes = !claimed; claimed = 1 } /* compare-and-swap */
     if
     :: yes -> release_slice(0)
     :: else
     fi
  :: else
  fi;
  section[me] = 0;
  done++
}

/* arenas_claim_slices, until it has a slice or has found none; then gives it back. */
#define WAS(n) ((me - 2) * SLICES + (n))
proctype Walker(byte me) {
  bit ok, held, nested, parity;
  byte i, n, saw = VACANT;
  do
  :: held = 0;
     n = SLICES;
#if defined(WEAK_SECTION) || defined(WEAK_PARITY)
     if
     :: saw = table; ENTER
     :: ENTER; saw = VACANT
     fi;
#else
     ENTER;
#endif
     if
     :: open ->
        if
        :: saw == VACANT -> saw = table
        :: else
        fi;
        if
        :: saw == ARENA ->
           /* try_claim */
           d_step {
             TOUCH;
             calm[me] = 1;
             held = (holders != 0);
             was_real[WAS(0)] = real[0];
             was_real[WAS(1)] = real[1]
           }
           claim_slice(0, 1);
           if
           :: ok -> n = 0
           :: else ->
              claim_slice(1, 1);
              if
              :: ok -> n = 1
              :: else ->
                 d_step {
                   TOUCH;
#ifdef NO_HOLD_COUNT
                   held = held || holders != 0
#else
                   held = !calm[me] || holders != 0
#endif
                 }
                 if
                 :: !held ->
                    assert(was_real[WAS(0)] && was_real[WAS(1)]); /* no slice was free */
                    /* arena_leave_open */
#if defined(LOOKS_FIRST)
                    ok = FREE_SLICE;
                    open = 0;
#elif defined(WEAK_LEAVE)
                    if
                    :: ok = FREE_SLICE; open = 0
                    :: open = 0; ok = FREE_SLICE
                    fi;
#elif defined(NO_SECOND_LOOK)
                    open = 0;
                    ok = 0;
#else
                    d_step { TOUCH; open = 0 }
                    d_step { TOUCH; ok = !used[0] }
                    if
                    :: !ok -> d_step { TOUCH; ok = !used[1] }
                    :: else
                    fi;
#endif
                    if
                    :: ok -> set_add()
                    :: else
                    fi
                 :: else
                 fi
              fi
           fi
        :: else
        fi
     :: else
     fi;
     d_step { LEAVE; ok = 0; saw = VACANT; calm[me] = 0 }
     if
     :: n < SLICES ->
#ifdef PARITY
        ENTER;
        give_back(n);
        d_step { LEAVE }
#else
        release_slice(n);
#endif
        break
     :: n == SLICES -> break /* none is free, or some have been held for too long */
     :: n == SLICES && held  /* look again */
     fi
  od;
  done++
}

/* purge_arena, found in a walk. */
proctype Purger(byte me) {
  bit ok, nested, have[SLICES];
  byte i, saw;
  section[me] = 1;
  saw = table;
  if
  :: saw == ARENA ->
#ifndef NO_HOLD
     hold_begin();
#endif
     claim_slice(0, 0);
     have[0] = ok;
     claim_slice(1, 0);
     have[1] = ok;
     if
     :: have[0] -> give_back(0)
     :: else
     fi;
     if
     :: have[1] -> give_back(1)
     :: else
     fi;
#ifndef NO_HOLD
     hold_end()
#else
     skip
#endif
  :: else
  fi;
  section[me] = 0;
  done++
}

/* wipe_all: a view, and in it slices that are claimed, and wiped if there are no readers. */
proctype Viewer(byte me) {
  bit ok, nested;
  byte i, saw;
#ifndef NO_VIEW_SECTION
  section[me] = 1;
#endif
  saw = table;
  if
  :: saw == ARENA ->
     d_step {
       TOUCH;
       ok = !closed;
       if
       :: ok -> views++
       :: else
       fi
     }
  :: else -> ok = 0
  fi;
  section[me] = 0;
  if
  :: ok ->
     hold_begin();
     claim_slice(1, 0);
     if
     :: ok ->
        look_at_readers();
        give_back(1)
     :: else
     fi;
     hold_end();
     d_step { TOUCH; views-- }
  :: else
  fi;
  done++
}

#ifdef WAITER
/* readers_wait, for another arena. */
proctype Waiter() {
  byte i;
  wait_by_parity();
  done++
}
#define WAITERS 1
#else
#define WAITERS 0
#endif

/* arena_destroy, without blocks. */
proctype Destroyer(byte me) {
  bit ok, nested, alone;
  byte i, saw;
  section[me] = 1;
  saw = table;
  if
  :: saw == ARENA -> d_step { TOUCH; ok = !closed; closed = 1 }
  :: else -> ok = 0
  fi;
  section[me] = 0;
  if
  :: ok ->
     /* claim_all */
     any_real = 0;
     do
     :: d_step {
          TOUCH;
          calm[me] = 1;
          alone = (holders == 0);
          any_real = real[0] || real[1]
        }
        hold_begin();
        claim_slice(0, 0);
        if
        :: ok ->
           claim_slice(1, 0);
           if
           :: !ok -> clear_slice(0)
           :: else
           fi
        :: else
        fi;
        if
        :: ok -> d_step { keep(0); keep(1) }
           hold_end();
           break
        :: else ->
           set_add();
           hold_end()
        fi;
        d_step { TOUCH; alone = alone && calm[me] }
        if
        :: alone -> break
        :: else
        fi
     od;
     calm[me] = 0;
     if
     :: !ok ->
        assert(any_real); /* busy: a slice was used */
        d_step { TOUCH; closed = 0 }
     :: else ->
        /* arena_forget */
#ifndef NO_VIEWS
        (views == 0);
#endif
#ifdef WAIT_FIRST
        readers_wait();
#endif
#ifdef WEAK_WAIT
        if
        :: readers_wait(); table = ENDING
        :: table = ENDING; readers_wait()
        fi;
#else
        table = ENDING;
#if !defined(NO_WAIT) && !defined(WAIT_FIRST) && !defined(SETS_FIRST)
        readers_wait();
#endif
#endif
        open = 0;
#ifdef SETS_FIRST
        readers_wait();
#endif
        table = VACANT;
        mapped = 0
     fi
  :: else
  fi;
  done++
}

init {
  atomic {
#if FREERS > 0
    used[0] = 1;
    real[0] = 1;
    run Freer(0);
#endif
#if FREERS > 1
    run Freer(1);
#endif
#if WALKERS > 0
    run Walker(2);
#endif
#if WALKERS > 1
    run Walker(3);
#endif
#if PURGERS > 0
    run Purger(4);
#endif
#if VIEWERS > 0
    run Viewer(6);
#endif
#if DESTROYERS > 0
    run Destroyer(5);
#endif
#if DESTROYERS > 1
    run Destroyer(4);
#endif
#ifdef WAITER
    run Waiter();
#endif
  }
  (done == FREERS + WALKERS + PURGERS + VIEWERS + DESTROYERS + WAITERS);
  d_step {
    if
    :: mapped ->
       assert(table == ARENA && !closed && views == 0 && holders == 0); /* at rest */
       assert(!FREE_SLICE || open);         /* a free slice is found */
       assert(!FREERS || claimed);          /* nothing empty stays behind */
       assert(!used[0] && !used[1])         /* every slice was given back */
    :: else ->
       assert(table == VACANT && !open)     /* the id can be used again */
    fi
  }
}
