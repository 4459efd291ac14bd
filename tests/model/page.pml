/* page.pml - who owns a page: its state, its planes, the flag, and who may take it away.
 *
 * One page descriptor. Two owners, who may each make a page in its slices, allocate, free, let
 * it rest, wake, collect, retire, abandon and adopt it, in any order that the code allows.
 * What an owner frees into a resting page is a plain store unless it sees the flag up or has
 * freed all blocks itself, which is what page->until tells it. When the page becomes available
 * is left open: the owner may wake a page that has any free block.
 * Two threads that free blocks of others and claim the page when it is empty. Visitors
 * and a thread that wipes the descriptor, where asked for. Every block is a group of its
 * own, so that to look whether a page is empty takes several steps; or the first two are a
 * group, so that an owner and others free into the same one.
 *
 * The comment behind an assertion names it.
 *
 * One step is one operation on a shared variable. Operations that are "full" in
 * runtime/base/atomic.h are taken in program order. WEAK_ variants let a load overtake the
 * store before it, which is what processors do without a full barrier.
 *
 *   BLOCKS, PAGES, ALLOCATIONS, ABANDONS   how much happens
 *   EARLY_RESTS   how often a page may rest with a block free
 *   FREERS        threads that free (1 or 2)
 *   NO_SECOND     one owner only
 *   PAIRED        the first two blocks are one group
 *   VISITOR       a thread visits an abandoned page: it sets it aside
 *   LOOKER        a thread visits a page of somebody else: it looks, and changes nothing
 *   WIPER         a thread wipes the descriptor of a free slice
 *
 * Errors to be found:
 *
 *   NO_COUNT           the state has no count
 *   NO_REST_LOOK       an owner that lets a page rest does not look at the flag
 *   REST_LOOKS_FIRST   it looks at the flag before it sets the state
 *   NO_OWN_CLAIM       an owner that frees the last block of a resting page leaves it
 *   NO_OWN_LOOK        an owner that frees into a resting page does not look at the flag
 *   WEAK_OWN           its loads of other words may overtake its store of the last bit
 *   WAKE_BLINDLY       an owner that wakes a page stores the state, without comparing it
 *   FREE_LOOKS_FIRST   who frees looks at the state before it raises the flag
 *   WEAK_REST          the load of the flag may overtake the store of the state
 *   WEAK_RAISE         the load of the state may overtake the store of the flag
 *   WEAK_BIT           the loads of other words may overtake the store of the bit
 *   WEAK_ABANDON       the look at the planes may overtake the store of the state
 *   LATE_LOWER         who collects reads the words, then lowers the flag
 *   WEAK_LOWER         the load of a word may overtake the store of the flag
 *   NO_CLEAR           who claims does not clear the xfree plane
 *   NO_FREE_SECTION    who frees opens no read section
 *   NO_ADOPT_SECTION   who adopts opens none
 *   BLIND_CLAIM        who claims stores the state, without comparing it
 *   EARLY_BIT_CLEAR    who takes an abandoned page clears its bit before it has it
 *   NO_OFFER           who frees the first block of an abandoned page does not offer it
 *   OFFER_LOOKS_FIRST  who abandons looks at the flag before it sets the state
 *   NO_SECOND_OFFER    who withdraws a stale offer does not look again
 *   BY_DESCRIPTOR      he asks the descriptor for its arena
 *   NO_LOOK_AGAIN      who looks at a page of somebody else does not read the state again
 *   NO_SETTING_ASIDE   a visitor of an abandoned page leaves it abandoned
 */
#ifndef BLOCKS
#define BLOCKS 2
#endif
#ifndef ALLOCATIONS
#define ALLOCATIONS 4
#endif
#ifndef PAGES
#define PAGES 2
#endif
#ifndef ABANDONS
#define ABANDONS 1
#endif
#ifndef EARLY_RESTS
#define EARLY_RESTS 1
#endif
#ifndef FREERS
#define FREERS 2
#endif
#ifdef NO_SECOND
#define OWNERS 1
#else
#define OWNERS 2
#endif

#define ALL ((1 << BLOCKS) - 1)
#define BIT(b) (1 << (b))

/* Groups and their bits. */
#ifdef PAIRED
#define GROUPS (BLOCKS - 1)
#define BITS_OF(g) ((g) == 0 -> 3 : BIT((g) + 1))
#define GROUP_OF(b) ((b) < 2 -> 0 : (b) - 1)
#else
#define GROUPS BLOCKS
#define BITS_OF(g) BIT(g)
#define GROUP_OF(b) (b)
#endif
#define HAS_ALL(plane, g) (((plane) & BITS_OF(g)) == BITS_OF(g))

/* The lower half of the state. */
#define NONE 0
#define ABANDONED 1
#define CLAIMED 2
#define VISITED 3
#define OPEN(o) (4 + 2 * (o))
#define RESTING(o) (5 + 2 * (o))
#define OWNER_OF(s) (((s) - 4) / 2)
#define IS_OF(s, o) ((s) == OPEN(o) || (s) == RESTING(o))
#define IS_RESTING(s) ((s) >= 4 && ((s) & 1) != 0)
#define IS_CLAIMABLE(s) ((s) == ABANDONED || IS_RESTING(s))

/* Who holds a live block: nobody, or an owner (0, 1) or a thread that frees (2, 3). */
#define NOBODY 0
#define HOLDER(p) (1 + (p))

/* The descriptor and its planes. */
byte kind = NONE;
byte fr = 0;   /* the owner's plane */
byte xf = 0;   /* what others freed */
bit flag = 0;  /* has_xfree */
byte sort = 0; /* page->kind: what may be allocated from it */

/* The arena. */
bit used = 0;      /* the page's slices */
bit abandoned = 0; /* the bit in the bitmap: an offer */
short abandoned_count = 0;

/* The cells. */
bit slot[2];

/* What is so, whatever the variables say. */
byte holder[BLOCKS];
bit exists = 0; /* a page is there */
byte allocations = 0;
byte abandons = 0;
byte pages = 0;
byte owners_done = 0;
byte early_rests = 0; /* with a block free: so that resting has an end */
bit was_plain = 0; /* the last free was a plain store, with the flag down before it */
#ifdef WIPER
bit described = 0; /* the descriptor names its arena */
#define DESCRIBE(x) described = x
#else
#define DESCRIBE(x) skip
#endif

bit section[5]; /* read sections */

/* The count in the upper half of the state. All that is asked of it is whether it is still
 * what it was when a thread read it: without a wiper a bit for each thread, which falls
 * when the count goes up, says that, and makes the same of histories that differ in
 * nothing else. */
#if defined(WIPER)
byte count = 0;
byte adoptions = 0; /* so that the count has an end */
#ifndef ADOPTIONS
#define ADOPTIONS 1
#endif
#define MAY_ADOPT (adoptions < ADOPTIONS)
#define COUNT_UP count++
#define REMEMBER(p) c = count
#define FORGET(p) c = 0
#define UNCHANGED(p) (c == count)
#else
byte seen = 0;
#define MAY_ADOPT 1
#if defined(NO_COUNT)
#define COUNT_UP skip
#else
#define COUNT_UP seen = 0
#endif
#define REMEMBER(p) seen = seen | BIT(p)
#define FORGET(p) seen = seen & ~BIT(p)
#define UNCHANGED(p) ((seen & BIT(p)) != 0)
#endif

#if defined(WIPER)
#define SECTION_BEGIN(p) section[p] = 1
#define SECTION_END(p) section[p] = 0
#else
#define SECTION_BEGIN(p) skip
#define SECTION_END(p) skip
#endif
#if defined(NO_FREE_SECTION)
#define FREE_SECTION_BEGIN(p) skip
#define FREE_SECTION_END(p) skip
#else
#define FREE_SECTION_BEGIN(p) SECTION_BEGIN(p)
#define FREE_SECTION_END(p) SECTION_END(p)
#endif
#if defined(NO_ADOPT_SECTION)
#define ADOPT_SECTION_BEGIN(p) skip
#define ADOPT_SECTION_END(p) skip
#else
#define ADOPT_SECTION_BEGIN(p) SECTION_BEGIN(p)
#define ADOPT_SECTION_END(p) SECTION_END(p)
#endif

#define NO_LIVE_BLOCK (holder[0] == NOBODY && holder[1] == NOBODY && HOLDER_2 == NOBODY)
#if BLOCKS > 2
#define HOLDER_2 holder[2]
#else
#define HOLDER_2 NOBODY
#endif
#define HOLDS(h) (holder[0] == (h) || holder[1] == (h) || HOLDER_2 == (h))

inline read_state() {
  d_step { s = kind; REMEMBER(me) }
}

/* Compare-and-swap of the state that was read. Sets ok. */
inline swap_state(to, up) {
  d_step {
    if
    :: kind == s && UNCHANGED(me) ->
       kind = to;
       ok = 1;
       if
       :: up -> COUNT_UP
       :: else
       fi
    :: else -> ok = 0
    fi;
    FORGET(me)
  }
}

/* What a thread need not know any more: fewer states. */
inline rest() {
  d_step { s = 0; i = 0; ok = 0; yes = 0; stale = 0; early = 0; FORGET(me) }
}

/* page_release, of a page that nobody else can reach. */
inline release() {
  d_step {
    assert(exists); /* released once */
    assert(NO_LIVE_BLOCK); /* released empty */
    exists = 0;
    if
    :: flag -> xf = 0
    :: else
    fi;
    kind = NONE;
    COUNT_UP
  }
  d_step {
    assert(used); /* slices of a page are used */
    used = 0
  }
}

/* page_offer */
inline offer() {
  abandoned_count++;
  d_step {
    if
    :: abandoned -> yes = 1
    :: else -> yes = 0; abandoned = 1
    fi
  }
  if
  :: yes -> abandoned_count--
  :: else
  fi;
  yes = 0
}

/* page_withdraw */
inline withdraw() {
  d_step {
    yes = abandoned;
    abandoned = 0
  }
  if
  :: yes -> abandoned_count--
  :: else
  fi;
  yes = 0
}

/* page_withdraw, of an offer that was followed. */
inline withdraw_stale() {
#if defined(BY_DESCRIPTOR)
  assert(described); /* a wiped descriptor is not followed */
#endif
  withdraw()
}

/* page_turn_over, after the swap of a state s. */
inline turned_over() {
  if
  :: s == ABANDONED -> withdraw()
  :: else ->
     d_step {
       assert(slot[OWNER_OF(s)]); /* a page with an owner has a slot */
       slot[OWNER_OF(s)] = 0
     }
  fi
}

/* Look at every word: sets yes if all blocks are free in one of the planes. */
inline look_if_empty() {
  i = 0;
  yes = 1;
  do
  :: i < GROUPS && yes ->
     d_step {
       if
       :: stale == 0 -> yes = HAS_ALL(fr | xf | pending, i)
       :: else -> yes = HAS_ALL(fr | early, i) /* loaded before it should be */
       fi;
       i++
     }
  :: else -> break
  od
}

/* page_claim_if_empty, from after the load of the state. */
inline claim_if_empty() {
  do
  :: if
     :: IS_CLAIMABLE(s)
     :: else -> break
     fi;
     look_if_empty();
     if
     :: yes
     :: else -> break
     fi;
#ifdef EARLY_BIT_CLEAR
     if
     :: s == ABANDONED -> withdraw(); yes = 1
     :: else
     fi;
#endif
#ifdef BLIND_CLAIM
     d_step { kind = CLAIMED; COUNT_UP; ok = 1 }
#else
     swap_state(CLAIMED, 1);
#endif
     if
     :: ok ->
        turned_over();
#ifndef NO_CLEAR
        xf = 0;
#endif
        release();
        break
     :: else
     fi;
     read_state()
  od;
  rest()
}

/* page_collect */
inline collect() {
  if
  :: flag ->
#ifndef LATE_LOWER
#ifdef WEAK_LOWER
     if
     :: early = xf; stale = ALL; flag = 0
     :: flag = 0
     fi;
#else
     flag = 0;
#endif
#endif
     i = 0;
     do
     :: i < GROUPS ->
        d_step { /* look, and exchange if there is something */
          if
          :: stale != 0 && (early & BITS_OF(i)) == 0
          :: (stale == 0 || (early & BITS_OF(i)) != 0) && (xf & BITS_OF(i)) != 0 ->
             assert((fr & xf & BITS_OF(i)) == 0); /* no block is freed twice */
             fr = fr | (xf & BITS_OF(i));
             xf = xf & ~BITS_OF(i)
          :: else
          fi;
          i++
        }
     :: else -> break
     od;
     stale = 0;
#ifdef LATE_LOWER
     flag = 0
#else
     skip
#endif
  :: else
  fi
}

/* abandon, from a state s that the caller has just read, and to which it has a right. Sets ok
 * when that was still the state. */
inline abandon_page(p) {
#ifdef OFFER_LOOKS_FIRST
  wants = fr != 0 || flag;
#else
  wants = fr != 0;
#endif
#ifdef WEAK_ABANDON
  if
  :: early = xf; stale = ALL
  :: skip
  fi;
#endif
  swap_state(ABANDONED, 1);
  if
  :: ok ->
     if
     :: s == VISITED
     :: else -> slot[OWNER_OF(s)] = 0
     fi;
#ifndef OFFER_LOOKS_FIRST
     if
     :: !wants -> wants = flag
     :: else
     fi;
#endif
     if
     :: wants -> offer()
     :: else
     fi;
     read_state();
     claim_if_empty();
     ok = 1
  :: else -> stale = 0
  fi;
  wants = 0
}

#define NOTHING 0
#define HAS_OPEN 1
#define HAS_RESTING 2

/* A block that the owner holds. */
inline find_own() {
  i = 0;
  do
  :: holder[i] != HOLDER(me) -> i++
  :: else -> break
  od
}

/* The owner sets the bit of block b in a resting page. */
inline own_bit() {
  assert(kind == RESTING(me) && exists); /* a page with a live block stays */
  assert(((fr | xf) & BIT(b)) == 0);     /* a live block is not free */
  holder[b] = NOBODY;
  fr = fr | BIT(b)
}

proctype Owner(byte me) {
  byte s, c, i, b, stale, early, pending;
  byte has = NOTHING;
  bit ok, yes, wants;
  bit collected; /* since it was opened */
  bit looks;
#ifdef NO_OWN_LOOK
  bit flag_was_up;
#else
#define flag_was_up 0
#endif
  do
  /* heap_fresh_page: claim slices, initialize, take a slot, publish. */
  :: d_step {
       has == NOTHING && allocations < ALLOCATIONS && pages < PAGES && used == 0 ->
       used = 1;
       pages++
     }
     d_step {
       assert(!exists); /* slices are handed out once */
       assert(xf == 0); /* the xfree plane of a free slice is all zeros */
       flag = 0;
       fr = ALL;
       DESCRIBE(1);
       assert(!slot[me]); /* a slot is taken once */
       slot[me] = 1
     }
#if OWNERS > 1
     if
     :: sort = 0
     :: me == 0 -> sort = 1
     fi;
#endif
     d_step {
       assert(kind == NONE); /* nobody changes the state of a free slice */
       kind = OPEN(me);
       COUNT_UP;
       exists = 1;
       has = HAS_OPEN;
       collected = 0
     }

  /* page_take_group, cell_take: the block is for the owner or for another. A group that the
   * cell has taken counts as part of the plane. */
  :: atomic {
       has == HAS_OPEN && fr != 0 && allocations < ALLOCATIONS ->
       d_step {
         i = 0;
         do
         :: (fr & BIT(i)) == 0 -> i++
         :: else -> break
         od;
         assert(kind == OPEN(me)); /* nobody takes an open page away */
         fr = fr & ~BIT(i);
         assert(exists); /* blocks are handed out of pages */
         assert(holder[i] == NOBODY); /* no block is handed out twice */
         allocations++
       }
       if
       :: holder[i] = HOLDER(me)
       :: holder[i] = HOLDER(2)
#if FREERS > 1
       :: holder[i] = HOLDER(3)
#endif
       fi;
       i = 0
     }

  /* block_free by the owner, into an open page. */
  :: d_step {
       has == HAS_OPEN && HOLDS(HOLDER(me)) ->
       find_own();
       holder[i] = NOBODY;
       assert(((fr | xf) & BIT(i)) == 0); /* a live block is not free */
       assert(kind == OPEN(me)); /* nobody takes an open page away */
       fr = fr | BIT(i);
       was_plain = 0;
       i = 0
     }

  /* Into a resting one: first it looks at the flag. */
  :: d_step {
       has == HAS_RESTING && HOLDS(HOLDER(me)) ->
       find_own();
       b = i;
#ifdef NO_OWN_LOOK
       looks = 0;
       flag_was_up = flag;
#else
       looks = flag;
#endif
       i = 0
     }
     if
     :: !looks && (fr | BIT(b)) != ALL -> /* free_own */
        d_step {
          own_bit();
          was_plain = !flag_was_up;
          b = 0
        }
     :: else -> /* page_free_block_resting */
        FREE_SECTION_BEGIN(me);
#ifdef WEAK_OWN
        read_state();
        pending = BIT(b);
        look_if_empty();
        pending = 0;
        ok = yes;
#endif
        d_step {
          own_bit();
          was_plain = 0;
          b = 0;
          looks = 0
        }
#ifdef NO_OWN_CLAIM
        skip;
#else
#ifdef WEAK_OWN
        if
        :: ok -> read_state(); claim_if_empty()
        :: else -> rest()
        fi;
#else
        read_state();
        claim_if_empty();
#endif
#endif
        FREE_SECTION_END(me)
     fi

  :: has == HAS_OPEN && flag ->
     collect();
     collected = 1;
     rest()

  /* cell_rest_page: what is free need not be worth a group. */
  :: has == HAS_OPEN && fr != ALL && (collected || !flag) &&
     (fr == 0 || early_rests < EARLY_RESTS) ->
     SECTION_BEGIN(me);
#if defined(REST_LOOKS_FIRST)
     looks = flag;
#elif defined(WEAK_REST)
     if
     :: looks = flag; yes = 1
     :: yes = 0
     fi;
#endif
     d_step {
       assert(kind == OPEN(me)); /* nobody takes an open page away */
       kind = RESTING(me);
       COUNT_UP;
       early_rests = early_rests + (fr != 0);
       has = HAS_RESTING
     }
#if defined(WEAK_REST)
     if
     :: !yes -> looks = flag
     :: else
     fi;
#elif !defined(REST_LOOKS_FIRST)
     looks = flag;
#endif
#ifdef NO_REST_LOOK
     looks = 0;
#endif
     if
     :: looks ->
        looks = 0;
        read_state();
        claim_if_empty()
     :: else
     fi;
     rest();
     SECTION_END(me)

  /* cell_wake */
  :: has == HAS_RESTING && (flag || fr != 0 || !slot[me]) ->
     SECTION_BEGIN(me);
     if
     :: !slot[me] -> has = NOTHING
     :: else ->
        read_state();
        if
        :: s == RESTING(me) ->
#ifdef WAKE_BLINDLY
           d_step { kind = OPEN(me); ok = 1 }
#else
           swap_state(OPEN(me), 0);
#endif
           if
           :: ok -> d_step { has = HAS_OPEN; collected = 0; was_plain = 0 }
           :: else -> has = NOTHING
           fi
        :: else -> has = NOTHING
        fi
     fi;
     rest();
     SECTION_END(me)

  /* cell_retire_if_free */
  :: has == HAS_OPEN && fr == ALL ->
retire:
     skip;
     d_step {
       assert(kind == OPEN(me)); /* nobody takes an open page away */
       assert(slot[me]);         /* an open page has a slot */
       slot[me] = 0;
       has = NOTHING
     }
     release();
     rest()

  /* heap_abandon: open or resting. */
  :: (has == HAS_OPEN || has == HAS_RESTING) && abandons < ABANDONS && !HOLDS(HOLDER(me)) ->
     abandons++;
     if
     :: has == HAS_OPEN ->
        collect();
        if
        :: fr == ALL -> goto retire
        :: else
        fi
     :: else
     fi;
     SECTION_BEGIN(me);
     if
     :: has == HAS_RESTING && !slot[me] -> has = NOTHING
     :: else
     fi;
     do
     :: has != NOTHING ->
        read_state();
        if
        :: IS_OF(s, me)
        :: else -> has = NOTHING; break
        fi;
        abandon_page(me);
        if
        :: ok -> has = NOTHING
        :: else
        fi
     :: else -> break
     od;
     rest();
     SECTION_END(me)

#if OWNERS > 1
  /* heap_adopt_page: a page of the kind that this owner's cell serves. */
  :: has == NOTHING && abandoned && allocations < ALLOCATIONS && me == 1 && MAY_ADOPT ->
     ADOPT_SECTION_BEGIN(me);
     read_state();
     if
     :: s == ABANDONED && sort == 0 ->
        swap_state(VISITED, 1);
        if
        :: ok ->
           assert(sort == 0); /* what was read under a state is true */
           assert(exists);    /* a page is adopted */
           turned_over();
#ifdef WIPER
           adoptions++;
#endif
           has = HAS_OPEN
        :: else
        fi
     :: else
     fi;
     if
     :: has == NOTHING && kind != ABANDONED -> /* a stale offer */
        withdraw_stale();
#ifndef NO_SECOND_OFFER
        if
        :: kind == ABANDONED -> offer()
        :: else
        fi
#endif
     :: else
     fi;
     ADOPT_SECTION_END(me);
     if
     :: has == HAS_OPEN ->
        collect();
        read_state();
        assert(s == VISITED); /* nobody takes away what is set aside */
        if
        :: fr == 0 -> /* nothing to be had: leave it again */
           has = NOTHING;
           SECTION_BEGIN(me);
           abandon_page(me);
           assert(ok); /* nobody takes away what is set aside */
           SECTION_END(me)
        :: else -> d_step {
             assert(!slot[me]); /* a slot is taken once */
             slot[me] = 1;
             kind = OPEN(me);
             COUNT_UP
           }
           collected = 1
        fi
     :: else
     fi;
     rest()
#endif

  :: break
  od;
  owners_done++
}

/* free_remote */
proctype Freer(byte me) {
  byte s, c, i, b, stale, early, pending;
  bit ok, yes, raised;
  do
  :: d_step {
       HOLDS(HOLDER(me)) ->
       b = 0;
       do
       :: holder[b] != HOLDER(me) -> b++
       :: else -> break
       od;
       FREE_SECTION_BEGIN(me) /* a store that the next full operation makes known */
     }
#ifdef WEAK_BIT
     /* All loads come first; the thread's own bit is seen by itself. */
     if
     :: flag ->
        read_state();
        pending = BIT(b);
        look_if_empty();
        pending = 0;
        ok = !yes || !IS_CLAIMABLE(s)
     :: skip
     fi;
#endif
     d_step {
       assert(exists);                    /* a page with a live block stays */
       assert(((fr | xf) & BIT(b)) == 0); /* a live block is not free */
       xf = xf | BIT(b);
       holder[b] = NOBODY;
       was_plain = 0
     }
#ifdef WEAK_BIT
     if
     :: ok -> rest(); goto done
     :: else
     fi;
#endif
#if defined(FREE_LOOKS_FIRST)
     read_state();
#elif defined(WEAK_RAISE)
     if
     :: read_state(); yes = 1
     :: yes = 0
     fi;
#endif
     d_step {
       if
       :: flag == 0 -> flag = 1; raised = 1
       :: else
       fi
     }
#if defined(WEAK_RAISE)
     if
     :: !yes -> read_state()
     :: else
     fi;
#elif !defined(FREE_LOOKS_FIRST)
     read_state();
#endif
#ifndef NO_OFFER
     if
     :: raised && s == ABANDONED -> offer()
     :: else
     fi;
#endif
     raised = 0;
     claim_if_empty();
done:
     b = 0;
     FREE_SECTION_END(me)
  :: owners_done == OWNERS -> break /* some blocks stay live */
  od
}

#ifdef VISITOR
/* visit_abandoned: once. */
proctype Visitor(byte me) {
  byte s, c, i, stale, early, pending, page;
  bit ok, yes, wants;
  if
  :: kind == ABANDONED ->
     SECTION_BEGIN(me);
     read_state();
     if
     :: s == ABANDONED ->
#ifdef NO_SETTING_ASIDE
        page = pages;
        FORGET(me);
        SECTION_END(me);
        assert(exists && page == pages) /* nobody takes away what is set aside */
#else
        swap_state(VISITED, 1);
        SECTION_END(me);
        if
        :: ok ->
           turned_over();
           page = pages;
           skip; /* here is the user's function */
           assert(exists && page == pages); /* nobody takes away what is set aside */
           read_state();
           assert(s == VISITED); /* nobody takes away what is set aside */
           SECTION_BEGIN(me);
           abandon_page(me);
           assert(ok); /* nobody takes away what is set aside */
           SECTION_END(me)
        :: else
        fi
#endif
     :: else -> FORGET(me); SECTION_END(me)
     fi
  :: skip
  fi
}
#endif

#ifdef LOOKER
/* look: once. What it learned is of one page if the state is the same in the end. */
proctype Looker(byte me) {
  byte s, c, page, what;
  bit ok;
  if
  :: kind != NONE && kind != CLAIMED ->
     SECTION_BEGIN(me);
     read_state();
     if
     :: s != NONE && s != CLAIMED ->
        what = sort;
        page = pages;
        d_step {
#ifdef NO_LOOK_AGAIN
          ok = 1;
#else
          ok = (kind == s && UNCHANGED(me));
#endif
          assert(!ok || (page == pages && what == sort && exists)) /* one page was seen */
        }
     :: else
     fi;
     FORGET(me);
     SECTION_END(me)
  :: skip
  fi
}
#endif

#ifdef WIPER
/* arena_wipe_metadata: once. It gives up when it meets a section that is open. */
proctype Wiper() {
  byte i;
  if
  :: d_step { used == 0 -> used = 1 }
     do
     :: i < 5 && section[i] == 0 -> i++
     :: i < 5 && section[i] != 0 -> break
     :: i == 5 ->
        d_step {
          assert(!exists); /* slices are handed out once */
          kind = NONE;
          count = 0;
          DESCRIBE(0);
          flag = 0;
          fr = 0;
          xf = 0
        }
        break
     od;
     used = 0
  :: skip
  fi
}
#endif

/* Where block b is free. */
#define PLACES(b) (((fr >> (b)) & 1) + ((xf >> (b)) & 1))

init {
  byte b;
  atomic {
    run Owner(0);
    run Freer(2);
#if FREERS > 1
    run Freer(3);
#endif
#if OWNERS > 1
    run Owner(1);
#endif
#ifdef VISITOR
    run Visitor(4);
#endif
#ifdef LOOKER
    run Looker(4);
#endif
#ifdef WIPER
    run Wiper();
#endif
  }
  (_nr_pr == 1);
  /* Everybody is done. */
  d_step {
    assert(exists == used && (kind == NONE) == !exists); /* slices are used or free */
    assert(kind != CLAIMED && kind != VISITED);          /* what is begun is finished */
    assert(flag || xf == 0);                             /* the flag is up over a bit */
    b = 0;
    do
    :: b < BLOCKS ->
       assert(!exists || PLACES(b) == (holder[b] == NOBODY)); /* no block is lost */
       b++
    :: else -> break
    od;
    /* Only what its owner has emptied by a plain store, and finds by the flag. */
    assert(!(IS_CLAIMABLE(kind) && (fr | xf) == ALL) ||
           (was_plain && IS_RESTING(kind) && flag)); /* nothing empty stays behind */
    assert(kind != ABANDONED || abandoned || (fr | xf) == 0); /* free blocks are found */
    assert(abandoned_count == abandoned);              /* offers are counted */
    assert(slot[0] == IS_OF(kind, 0) && slot[1] == IS_OF(kind, 1)) /* slots are right */
  }
}
