#include "base/bitmap.h"

/* The part of a run that lies in one word. */
struct span {
  size_t word;
  uint64_t mask;
  size_t count;
};

static struct span span_at(size_t start, size_t count) {
  const size_t offset = start % WORD_BITS;
  const size_t room = WORD_BITS - offset;
  const size_t taken = count < room ? count : room;
  return (struct span){start / WORD_BITS, bits_below(taken) << offset, taken};
}

size_t bitmap_set_run(atomic_word *map, size_t start, size_t count) {
  size_t changed = 0;
  while (count > 0) {
    const struct span s = span_at(start, count);
    const uint64_t old = atomic_fetch_or_full(&map[s.word], s.mask);
    changed += bits_count(s.mask & ~old);
    start += s.count;
    count -= s.count;
  }
  return changed;
}

size_t bitmap_clear_run(atomic_word *map, size_t start, size_t count) {
  size_t changed = 0;
  while (count > 0) {
    const struct span s = span_at(start, count);
    const uint64_t old = atomic_fetch_and_full(&map[s.word], ~s.mask);
    changed += bits_count(s.mask & old);
    start += s.count;
    count -= s.count;
  }
  return changed;
}

/* Turn all bits of mask over if all have this value. */
static bool word_turn(atomic_word *word, uint64_t mask, bool value) {
  const uint64_t wanted = value ? mask : 0;
  uint64_t old = atomic_load_relaxed(word);
  while ((old & mask) == wanted) {
    if (atomic_compare_and_swap_full(word, old, old ^ mask)) return true;
    old = atomic_load_relaxed(word);
  }
  return false;
}

static bool turn_run(atomic_word *map, size_t start, size_t count, bool value) {
  size_t done = 0;
  while (done < count) {
    const struct span s = span_at(start + done, count - done);
    if (!word_turn(&map[s.word], s.mask, value)) {
      if (value) {
        bitmap_set_run(map, start, done);
      } else {
        bitmap_clear_run(map, start, done);
      }
      return false;
    }
    done += s.count;
  }
  return true;
}

bool bitmap_claim_run(atomic_word *map, size_t start, size_t count) {
  return turn_run(map, start, count, false);
}

bool bitmap_unclaim_run(atomic_word *map, size_t start, size_t count) {
  return turn_run(map, start, count, true);
}

bool bitmap_is_set_run(const atomic_word *map, size_t start, size_t count) {
  return bitmap_find(map, start, start + count, false) == start + count;
}

size_t bitmap_find(const atomic_word *map, size_t start, size_t limit, bool value) {
  while (start < limit) {
    const uint64_t raw = atomic_load_acquire(&map[start / WORD_BITS]);
    const uint64_t word = (value ? raw : ~raw) >> (start % WORD_BITS);
    if (word != 0) {
      const size_t found = start + bits_lowest(word);
      return found < limit ? found : limit;
    }
    start = (start / WORD_BITS + 1) * WORD_BITS;
  }
  return limit;
}
