/* purge.pml - free slices that wait for purge are found again.
 *
 * One arena of two slices in one word. Threads that give slices back, schedule their purge,
 * and purge what is due as they pass by; others that only pass by; others that take a
 * slice meanwhile. Whether something is due yet is open each time.
 *
 * When everybody is done, a free slice that waits has a time, the arena is in the set of
 * those to purge, and the time of all arenas is set: the next thread that passes by finds
 * it.
 *
 * One step is one operation on a shared variable, in program order but for the variants.
 *
 *   RELEASERS, PASSERS, TAKERS   how many threads of each kind
 *
 * Errors to be found:
 *
 *   WEAK_TIME        the load of the arena's time may overtake the store of the bit
 *   TIME_FIRST       a time is set, then the bit
 *   NO_SECOND_LOOK   who takes the arena out of the set does not look again
 *   NO_WAITING       who meets a slice that is still used does not set a time for it
 *   NO_NEXT          who has walked over the arenas does not set the time of all again
 *   SET_LAST         the time of all is set before the arena is in the set
 */
#ifndef RELEASERS
#define RELEASERS 2
#endif
#ifndef PASSERS
#define PASSERS 1
#endif
#ifndef TAKERS
#define TAKERS 0
#endif

byte used = 3; /* a bit per slice */
byte waiting = 0; /* the bitmap `purge` */
bit purge_at = 0; /* whether the arena has a time */
bit in_set = 0;
bit purge_due = 0; /* whether there is a time for all arenas */
byte being_purged = 0;
byte done = 0;

/* arena_set_purge_time, from after the load of purge_at. */
inline set_time() {
  if
  :: !early ->
     d_step { early = purge_at; purge_at = 1 } /* compare-and-swap */
     if
     :: !early ->
#ifdef SET_LAST
        purge_due = 1;
#endif
        early = in_set;
        if
        :: !early -> in_set = 1
        :: else
        fi;
#ifndef SET_LAST
        purge_due = 1 /* if it is 0 */
#else
        skip
#endif
     :: else
     fi
  :: else
  fi;
  early = 0
}

/* purge_arena */
inline purge_arena() {
  early = purge_at;
  if
  :: early ->
     d_step { ok = purge_at; purge_at = 0 } /* compare-and-swap */
     if
     :: ok ->
        in_set = 0;
#ifndef NO_SECOND_LOOK
        ok = purge_at;
        if
        :: ok ->
           ok = in_set;
           if
           :: !ok -> in_set = 1
           :: else
           fi
        :: else
        fi;
#endif
        /* purge_word */
        mask = waiting;
        d_step { ours = mask & ~used; used = used | mask }
        d_step { left = ours & waiting; waiting = waiting & ~ours }
        d_step {
          assert((being_purged & left) == 0); /* one thread purges a slice */
          being_purged = being_purged | left
        }
        d_step {
          being_purged = being_purged & ~left;
          assert((used & ours) == ours); /* what is given back was used */
          used = used & ~ours
        }
#ifndef NO_WAITING
        if
        :: ours != mask -> early = purge_at; set_time()
        :: else
        fi;
#endif
        d_step { mask = 0; ours = 0; left = 0 }
     :: else
     fi
  :: skip /* it is not due */
  fi;
  d_step { ok = 0; early = 0 }
}

/* arenas_purge */
inline pass_by() {
  ok = purge_due;
  if
  :: ok ->
     d_step { ok = purge_due; purge_due = 0 } /* compare-and-swap */
     if
     :: ok ->
        ok = in_set;
        if
        :: ok ->
           purge_arena();
#ifndef NO_NEXT
           ok = purge_at;
           if
           :: ok -> purge_due = 1 /* if it is 0 */
           :: else
           fi
#else
           skip
#endif
        :: else
        fi
     :: else
     fi
  :: skip /* it is not due */
  fi;
  ok = 0
}

/* arena_release_slices, then arenas_purge */
inline give_back(n) {
#if defined(TIME_FIRST)
  early = purge_at;
  set_time();
  waiting = waiting | (1 << (n));
#elif defined(WEAK_TIME)
  if
  :: early = purge_at; waiting = waiting | (1 << (n))
  :: waiting = waiting | (1 << (n)); early = purge_at
  fi;
  set_time();
#else
  waiting = waiting | (1 << (n));
  early = purge_at;
  set_time();
#endif
  d_step {
    assert(used & (1 << (n))); /* what is given back was used */
    used = used & ~(1 << (n))
  }
  pass_by()
}

proctype Releaser(byte n) {
  bit ok, early;
  byte mask, ours, left;
  give_back(n);
  done++
}

proctype Passer() {
  bit ok, early;
  byte mask, ours, left;
  pass_by();
  done++
}

/* try_claim of the first slice, then it is given back. */
proctype Taker() {
  bit ok, early;
  byte mask, ours, left;
  if
  :: d_step { (used & 1) == 0 -> used = used | 1 }
     assert((being_purged & 1) == 0); /* no slice is purged that is in use */
     ok = waiting & 1;
     if
     :: ok -> waiting = waiting & ~1
     :: else
     fi;
     ok = 0;
     give_back(0)
  :: skip
  fi;
  done++
}

init {
  atomic {
#if RELEASERS > 0
    run Releaser(0);
#endif
#if RELEASERS > 1
    run Releaser(1);
#endif
#if PASSERS > 0
    run Passer();
#endif
#if PASSERS > 1
    run Passer();
#endif
#if TAKERS > 0
    run Taker();
#endif
  }
  (done == RELEASERS + PASSERS + TAKERS);
  assert((waiting & ~used) == 0 || (purge_at && in_set && purge_due)) /* it is found */
}
