/* bits.h - words, alignment and internal assertions: pure functions, no state. */
#ifndef MIRT_BASE_BITS_H
#define MIRT_BASE_BITS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define likely(x) __builtin_expect(!!(x), 1)
#define unlikely(x) __builtin_expect(!!(x), 0)

/* It reads what other threads may be changing, and either knows afterwards whether they did
 * or promises nothing if they do. */
#define reads_what_may_change __attribute__((no_sanitize("thread")))

/* Part of its caller everywhere, also of one that reads what may change. */
#define inlined_always inline __attribute__((always_inline))

/* A function off the fast path: kept out of line so that it costs its caller nothing. */
#define cold_function __attribute__((noinline, cold))

#ifdef MIRT_DEBUG
#include <assert.h>
#define mirt_assert(x) assert(x)
#else
#define mirt_assert(x) ((void)0)
#endif

#define KiB ((size_t)1024)
#define MiB (1024 * KiB)
#define GiB (1024 * MiB)

#define WORD_BITS ((size_t)64)
#define WORD_ONES (~(uint64_t)0)

__extension__ typedef unsigned __int128 uint128;

/* Index of the lowest set bit; word must not be 0. Where a processor does not know tzcnt it
 * takes this for bsf: the same for such a word. In assembly, since compilers add an
 * instruction that widens the result. */
static inline size_t bits_lowest(uint64_t word) {
#if defined(__x86_64__) && defined(__GNUC__)
  __asm__("rep bsfq %0, %0" : "+r"(word) : : "cc");
  return word;
#else
  return (size_t)__builtin_ctzll(word);
#endif
}

/* Index of the highest set bit; word must not be 0. */
static inline unsigned bits_highest(uint64_t word) {
  return 63u - (unsigned)__builtin_clzll(word);
}

/* How many bits are set. Without the instruction, which not every x86-64 has, it is arithmetic:
 * the compiler would call a function. */
static inline size_t bits_count(uint64_t word) {
#if defined(__x86_64__) && !defined(__POPCNT__)
  word -= (word >> 1) & UINT64_C(0x5555555555555555);
  word = (word & UINT64_C(0x3333333333333333)) +
         ((word >> 2) & UINT64_C(0x3333333333333333));
  word = (word + (word >> 4)) & UINT64_C(0x0f0f0f0f0f0f0f0f);
  return (size_t)((word * UINT64_C(0x0101010101010101)) >> 56);
#else
  return (size_t)__builtin_popcountll(word);
#endif
}

/* The bit at an index modulo 64: is it set; the word with it set. In assembly where compilers
 * would compute the remainder first, which the instruction does itself. */
static inline bool bits_has(uint64_t word, size_t index) {
  return ((word >> (index % WORD_BITS)) & 1) != 0;
}

static inline uint64_t bits_with(uint64_t word, size_t index) {
#if defined(__x86_64__) && defined(__GNUC__)
  __asm__("btsq %1, %0" : "+r"(word) : "r"(index) : "cc");
  return word;
#else
  return word | (uint64_t)1 << (index % WORD_BITS);
#endif
}

/* A word with the lowest count bits set, count 0 to 64. */
static inline uint64_t bits_below(size_t count) {
  return count >= WORD_BITS ? WORD_ONES : ((uint64_t)1 << count) - 1;
}

static inline bool is_power_of_two(size_t n) { return n != 0 && (n & (n - 1)) == 0; }

static inline uintptr_t align_up(uintptr_t n, size_t alignment) {
  return (n + alignment - 1) & ~(uintptr_t)(alignment - 1);
}

static inline uintptr_t align_down(uintptr_t n, size_t alignment) {
  return n & ~(uintptr_t)(alignment - 1);
}

static inline size_t divide_up(size_t n, size_t divisor) {
  return (n + divisor - 1) / divisor;
}

static inline size_t clamp(size_t n, size_t least, size_t most) {
  return n < least ? least : n > most ? most : n;
}

/* count * size, or false on overflow. */
static inline bool multiply_checked(size_t count, size_t size, size_t *product) {
  return !__builtin_mul_overflow(count, size, product);
}

#endif
