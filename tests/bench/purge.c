/* The benchmark of giving memory back: runs one setting and prints what it took.

   Like the patterns, it knows nothing of mirt: it looks for the call by which the
   preloaded allocator gives all free memory back. The system calls are counted here: the
   program exports functions of its own under their names, and the dynamic linker takes
   those for the ones that the library calls. */

#include "bench.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <inttypes.h>
#include <malloc.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

/* System calls. A library may make them from threads of its own. */

enum { CALL_MADVISE, CALL_MUNMAP, CALL_MPROTECT, call_kinds };

static atomic_uint_fast64_t calls[call_kinds];
static atomic_uint_fast64_t calls_nanoseconds;

static int call_counted(int kind, long number, void *address, size_t size, int last) {
  uint64_t start = clock_nanoseconds();
  int result = (int)syscall(number, address, size, last);
  atomic_fetch_add(&calls_nanoseconds, clock_nanoseconds() - start);
  atomic_fetch_add(&calls[kind], 1);
  return result;
}

#define EXPORTED __attribute__((visibility("default")))

EXPORTED int madvise(void *address, size_t size, int advice) {
  return call_counted(CALL_MADVISE, SYS_madvise, address, size, advice);
}

EXPORTED int munmap(void *address, size_t size) {
  return call_counted(CALL_MUNMAP, SYS_munmap, address, size, 0);
}

EXPORTED int mprotect(void *address, size_t size, int protection) {
  return call_counted(CALL_MPROTECT, SYS_mprotect, address, size, protection);
}

/* What has been spent up to a moment. */
struct moment {
  uint64_t nanoseconds;
  uint64_t calls[call_kinds];
  uint64_t calls_nanoseconds;
  uint64_t faults;
};

static struct moment moment_now(void) {
  struct rusage usage;
  getrusage(RUSAGE_SELF, &usage);
  struct moment now = {.faults = (uint64_t)usage.ru_minflt};
  for (int kind = 0; kind < call_kinds; kind++)
    now.calls[kind] = atomic_load(&calls[kind]);
  now.calls_nanoseconds = atomic_load(&calls_nanoseconds);
  now.nanoseconds = clock_nanoseconds();
  return now;
}

static void print_number(const char *phase, const char *what, uint64_t number) {
  printf("%s_%s %" PRIu64 "\n", phase, what, number);
}

static void print_phase(const char *phase, const struct moment *start,
                        const struct moment *end) {
  static const char *const names[] = {"madvise", "munmap", "mprotect"};
  print_number(phase, "nanoseconds", end->nanoseconds - start->nanoseconds);
  for (int kind = 0; kind < call_kinds; kind++)
    print_number(phase, names[kind], end->calls[kind] - start->calls[kind]);
  print_number(phase, "calls_nanoseconds",
               end->calls_nanoseconds - start->calls_nanoseconds);
  print_number(phase, "faults", end->faults - start->faults);
}

/* Without stdio, whose buffers are blocks of the allocator that is measured. */
static uint64_t resident_kibibytes(void) {
  char text[128];
  unsigned long pages;
  int file = open("/proc/self/statm", O_RDONLY | O_CLOEXEC);
  ssize_t length = file < 0 ? -1 : read(file, text, sizeof text - 1);
  if (length <= 0) bench_fail("/proc/self/statm: cannot be read");
  close(file);
  text[length] = '\0';
  if (sscanf(text, "%*u %lu", &pages) != 1)
    bench_fail("/proc/self/statm: has no resident size");
  return (uint64_t)pages * (uint64_t)sysconf(_SC_PAGESIZE) / 1024;
}

/* Giving everything back. What a library keeps aside for the thread is given back too:
   mi_collect does that by itself, others have a call for it. */

static struct {
  void (*mi_collect)(bool force);
  int (*mallctl)(const char *, void *, size_t *, void *, size_t);
  void (*mark_thread_idle)(void);
  void (*release_free_memory)(void);
} allocator;

static void find_function(const char *name, void *function) {
  void *address = dlsym(RTLD_DEFAULT, name);
  memcpy(function, &address, sizeof address);
}

static void allocator_find(void) {
  find_function("mi_collect", &allocator.mi_collect);
  find_function("mallctl", &allocator.mallctl);
  find_function("MallocExtension_MarkThreadIdle", &allocator.mark_thread_idle);
  find_function("MallocExtension_ReleaseFreeMemory", &allocator.release_free_memory);
}

static void allocator_control(const char *name) {
  if (allocator.mallctl(name, NULL, NULL, NULL, 0) != 0)
    bench_fail("mallctl: refuses to give memory back");
}

static void give_back(void) {
  if (allocator.mi_collect != NULL) {
    allocator.mi_collect(true);
  } else if (allocator.mallctl != NULL) {
    allocator_control("thread.tcache.flush");
    allocator_control("arena.4096.purge"); /* 4096 is MALLCTL_ARENAS_ALL */
  } else if (allocator.release_free_memory != NULL) {
    if (allocator.mark_thread_idle != NULL) allocator.mark_thread_idle();
    allocator.release_free_memory();
  } else {
    malloc_trim(0);
  }
}

/* The settings. Each allocates sets: blocks of random sizes, together as large as the
   setting says. At multiples of the step, which is a page or less, a block gets a word
   that is checked later, so that all of it is resident. */

enum { page_size = 4096 };

struct setting {
  const char *name;
  void (*run)(const struct setting *setting);
  size_t bytes;               /* in a set */
  uint32_t smallest, largest; /* block sizes; powers of two */
  uint32_t step;
  size_t slots;               /* more than a set has blocks */
};

struct set {
  const struct setting *setting;
  void **blocks;
  size_t count;
  struct random random;
  struct tally tally;
};

/* The table of blocks is written to, so that it is part of every number of resident
   memory. */
static struct set set_prepare(const struct setting *setting) {
  void **blocks = array_map(setting->slots, sizeof *blocks);
  memset(blocks, 0xFF, setting->slots * sizeof *blocks);
  return (struct set){.setting = setting, .blocks = blocks, .random = random_seed(20)};
}

static void block_fill(unsigned char *block, uint32_t step) {
  uint64_t stamp = *(uint64_t *)block;
  size_t size = stamp_size(stamp);
  for (size_t at = step; at + sizeof stamp < size; at += step)
    *(uint64_t *)(block + at) = stamp + at;
}

static void block_check_filling(const unsigned char *block, uint32_t step) {
  uint64_t stamp = *(const uint64_t *)block;
  size_t size = stamp_size(stamp);
  for (size_t at = step; at + sizeof stamp < size; at += step) {
    if (*(const uint64_t *)(block + at) != stamp + at)
      bench_fail("the inside of a block has changed");
  }
}

static void set_allocate(struct set *set) {
  const struct setting *setting = set->setting;
  set->count = 0;
  for (size_t bytes = 0; bytes < setting->bytes;) {
    size_t size = random_log_between(&set->random, setting->smallest, setting->largest);
    if (set->count == setting->slots) bench_fail("the table of blocks is too small");
    void *block = block_new(&set->tally, size);
    block_fill(block, setting->step);
    set->blocks[set->count++] = block;
    bytes += size;
  }
}

static void set_check(struct set *set) {
  for (size_t i = 0; i < set->count; i++) {
    block_check(&set->tally, set->blocks[i]);
    block_check_filling(set->blocks[i], set->setting->step);
  }
}

static void set_free(const struct set *set) {
  for (size_t i = 0; i < set->count; i++)
    free(set->blocks[i]);
}

static void print_run(const struct set *set) {
  if (set->tally.written != set->tally.found)
    bench_fail("the blocks freed are not the blocks allocated");
  printf("setting %s\n", set->setting->name);
  printf("checksum %016" PRIx64 "\n", set->tally.found);
  printf("malloc %s\n", malloc_provider());
}

static void setting_give_back(const struct setting *setting) {
  struct set set = set_prepare(setting);
  uint64_t start = resident_kibibytes();
  set_allocate(&set);
  set_check(&set);
  uint64_t full = resident_kibibytes();

  struct moment free_start = moment_now();
  set_free(&set);
  struct moment free_end = moment_now();
  uint64_t freed = resident_kibibytes();

  struct moment give_start = moment_now();
  give_back();
  struct moment give_end = moment_now();
  uint64_t given = resident_kibibytes();

  print_run(&set);
  print_phase("free", &free_start, &free_end);
  print_phase("give", &give_start, &give_end);
  print_number("start", "kib", start);
  print_number("full", "kib", full);
  print_number("freed", "kib", freed);
  print_number("given", "kib", given);
}

/* The allocator is not told to give anything back, so that it does so, or not, as it sees
   fit. */
static void setting_again(const struct setting *setting) {
  enum { sets = 8 };
  struct set set = set_prepare(setting);
  uint64_t start = resident_kibibytes(), full = 0;
  struct moment sets_start = moment_now();
  for (int i = 0; i < sets; i++) {
    set_allocate(&set);
    uint64_t resident = resident_kibibytes();
    if (resident > full) full = resident;
    set_check(&set);
    set_free(&set);
  }
  struct moment sets_end = moment_now();
  uint64_t freed = resident_kibibytes();

  print_run(&set);
  print_number("sets", "count", sets);
  print_phase("sets", &sets_start, &sets_end);
  print_number("start", "kib", start);
  print_number("full", "kib", full);
  print_number("freed", "kib", freed);
}

static const struct setting settings[] = {
    {"small", setting_give_back, 1 << 30, 16, 4 << 10, page_size, 1500000},
    {"large", setting_give_back, 1 << 30, 64 << 10, 8 << 20, page_size, 1000},
    {"again", setting_again, 256 << 20, 64 << 10, 8 << 20, sizeof(uint64_t), 300},
};

enum { setting_count = sizeof settings / sizeof settings[0] };

int main(int argc, char **argv) {
  if (argc == 2) {
    bool list = strcmp(argv[1], "--list") == 0;
    allocator_find();
    for (size_t i = 0; i < setting_count; i++) {
      if (list) {
        puts(settings[i].name);
      } else if (strcmp(argv[1], settings[i].name) == 0) {
        settings[i].run(&settings[i]);
        return 0;
      }
    }
    if (list) return 0;
  }
  fputs("usage: purge SETTING | --list\n", stderr);
  return 2;
}
