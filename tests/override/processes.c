/* processes.c - what programs do around malloc: fork while threads allocate, load and
 * unload libraries, allocate while a thread ends or the process does, and use every
 * function that stands beside malloc.
 *
 * Runs with any malloc. Where it is mirt's, found by its functions, it also checks that
 * blocks come from there, and that nothing stays behind of threads that have ended.
 * Exit code 0 if all is well. The argument is the plugin to load.
 */
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <malloc.h>
#include <mimalloc.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define FORKS 40
#define THREADS 4
#define COUNT_OF(array) (sizeof(array) / sizeof((array)[0]))

extern char **environ;

static void require(int condition, const char *text, int line) {
  if (condition) return;
  fprintf(stderr, "processes.c:%d: failed: %s\n", line, text);
  _exit(1);
}

#define REQUIRE(condition) require((condition), #condition, __LINE__)

/* ---- is it mirt? ---- */

static bool (*in_mirt)(const void *p);
static bool (*get_stats)(mi_stats_t *stats);

static void find_mirt(void) {
  *(void **)&in_mirt = dlsym(RTLD_DEFAULT, "mi_is_in_heap_region");
  *(void **)&get_stats = dlsym(RTLD_DEFAULT, "mi_stats_get");
  bool (*is_redirected)(void);
  *(void **)&is_redirected = dlsym(RTLD_DEFAULT, "mi_is_redirected");
  if (is_redirected != NULL) REQUIRE(is_redirected());
}

/* A block that the C library says is ours is one of mirt's. */
static void *ours(void *p) {
  REQUIRE(p != NULL && (in_mirt == NULL || in_mirt(p)));
  return p;
}

static mi_stats_t stats_now(void) {
  mi_stats_t_decl(stats);
  REQUIRE(get_stats(&stats));
  return stats;
}

/* ---- allocating at random ---- */

#define SLOTS 200

static void churn(unsigned seed, size_t rounds) {
  unsigned char *slots[SLOTS] = {0};
  for (size_t i = 0; i < rounds; i++) {
    seed = seed * 1103515245 + 12345;
    unsigned char **slot = &slots[(seed >> 8) % SLOTS];
    const size_t size = (seed >> 16) % 64 == 0 ? 300000 : (seed >> 20) % 2000 + 2;
    if (*slot != NULL) REQUIRE((*slot)[0] == (unsigned char)(slot - slots));
    switch ((seed >> 4) % 3) {
      case 0:
        free(*slot);
        *slot = malloc(size);
        break;
      case 1:
        free(*slot);
        *slot = calloc(1, size);
        REQUIRE(*slot != NULL && (*slot)[size - 1] == 0);
        break;
      default: *slot = realloc(*slot, size);
    }
    REQUIRE(*slot != NULL);
    (*slot)[0] = (*slot)[size - 1] = (unsigned char)(slot - slots);
  }
  for (size_t i = 0; i < SLOTS; i++) free(slots[i]);
}

/* ---- fork ---- */

static volatile int stop;

static void *churn_until_stopped(void *argument) {
  for (unsigned i = 0; !__atomic_load_n(&stop, __ATOMIC_RELAXED); i++) {
    churn((unsigned)(size_t)argument + i, 1000);
  }
  return NULL;
}

static void *churn_once(void *argument) {
  churn((unsigned)(size_t)argument, 3000);
  return NULL;
}

static void wait_for(pid_t child) {
  int status = 0;
  REQUIRE(child > 0);
  while (waitpid(child, &status, 0) != child) REQUIRE(errno == EINTR);
  REQUIRE(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

/* A child that goes on as the process did: with its blocks, and with threads of its
 * own. */
static void fork_once(unsigned number) {
  char *before = malloc(100 + number);
  memset(before, 1, 100 + number);
  const pid_t child = fork();
  if (child == 0) {
    alarm(100); /* a child that waits for a lock of a thread it does not have */
    free(before);
    churn(number, 3000);
    pthread_t thread;
    REQUIRE(pthread_create(&thread, NULL, churn_once, (void *)(size_t)number) == 0);
    REQUIRE(pthread_join(thread, NULL) == 0);
    if (number % 4 == 0) {
      const pid_t grandchild = fork();
      if (grandchild == 0) {
        churn(number, 1000);
        _exit(0);
      }
      wait_for(grandchild);
    }
    exit(0); /* with all that runs at an exit */
  }
  wait_for(child);
  free(before);
}

static void *fork_from_thread(void *argument) {
  for (unsigned i = 0; i < FORKS / 4; i++) fork_once((unsigned)(size_t)argument + i);
  return NULL;
}

static void allocate_at_fork(void) { free(malloc(1000)); }

static void test_forks(void) {
  pthread_t threads[THREADS], forker;
  REQUIRE(pthread_atfork(allocate_at_fork, allocate_at_fork, allocate_at_fork) == 0);
  for (size_t i = 0; i < THREADS; i++) {
    REQUIRE(pthread_create(&threads[i], NULL, churn_until_stopped, (void *)(i * 1000)) ==
            0);
  }
  REQUIRE(pthread_create(&forker, NULL, fork_from_thread, (void *)(size_t)1000) == 0);
  for (unsigned i = 0; i < FORKS; i++) fork_once(i);
  REQUIRE(pthread_join(forker, NULL) == 0);
  __atomic_store_n(&stop, 1, __ATOMIC_RELAXED);
  for (size_t i = 0; i < THREADS; i++) REQUIRE(pthread_join(threads[i], NULL) == 0);

  char *arguments[] = {(char *)"true", NULL};
  pid_t child;
  REQUIRE(posix_spawnp(&child, "true", NULL, NULL, arguments, environ) == 0);
  wait_for(child);
  REQUIRE(system("true") == 0);
}

/* ---- libraries ---- */

static void *use_plugin(void *argument) {
  char *(*copy)(size_t times);
  *(void **)&copy = argument;
  for (size_t i = 1; i < 50; i++) {
    char *text = ours(copy(i));
    REQUIRE(strlen(text) == 18 * i);
    free(text);
  }
  return NULL;
}

static void test_libraries(const char *plugin) {
  for (size_t i = 0; i < 20; i++) {
    void *library = dlopen(plugin, i % 2 == 0 ? RTLD_NOW : RTLD_LAZY);
    if (library == NULL) fprintf(stderr, "%s\n", dlerror());
    REQUIRE(library != NULL);
    void *copy = dlsym(library, "plugin_copy");
    REQUIRE(copy != NULL);
    use_plugin(copy);
    pthread_t thread;
    REQUIRE(pthread_create(&thread, NULL, use_plugin, copy) == 0);
    REQUIRE(pthread_join(thread, NULL) == 0);
    REQUIRE(dlclose(library) == 0);
    REQUIRE(dlopen("/there/is/no/such/library.so", RTLD_NOW) == NULL &&
            dlerror() != NULL);
  }
}

/* ---- what runs when a thread ends ---- */

static pthread_key_t keys[8];

/* Frees what the thread had, and allocates again. The value with rounds left comes
 * back. */
static void end_of_value(void *value) {
  size_t *rounds = value;
  churn((unsigned)*rounds, 100);
  if (*rounds > 0) {
    size_t *next = malloc(5000);
    *next = *rounds - 1;
    REQUIRE(pthread_setspecific(keys[*rounds % COUNT_OF(keys)], next) == 0);
  }
  free(rounds);
}

static void *use_keys(void *argument) {
  for (size_t i = 0; i < COUNT_OF(keys); i++) {
    size_t *rounds = malloc(sizeof *rounds + i * 100);
    *rounds = i % 2;
    REQUIRE(pthread_setspecific(keys[i], rounds) == 0);
  }
  return argument;
}

/* Frees a block of a thread that has ended already. */
static void *keep_block(void *argument) {
  void **block = argument;
  *block = strdup("outlives its thread");
  return use_keys(NULL);
}

static void test_ends_of_threads(void) {
  for (size_t i = 0; i < COUNT_OF(keys); i++) {
    REQUIRE(pthread_key_create(&keys[i], end_of_value) == 0);
  }
  const int64_t before = get_stats != NULL ? stats_now().threads.current : 0;
  for (size_t i = 0; i < 200; i++) {
    void *block = NULL;
    pthread_t threads[2];
    REQUIRE(pthread_create(&threads[0], NULL, use_keys, NULL) == 0);
    REQUIRE(pthread_create(&threads[1], NULL, keep_block, &block) == 0);
    REQUIRE(pthread_join(threads[0], NULL) == 0);
    REQUIRE(pthread_join(threads[1], NULL) == 0);
    REQUIRE(strcmp(block, "outlives its thread") == 0);
    free(block);
  }
  if (get_stats != NULL) REQUIRE(stats_now().threads.current == before);
}

/* ---- the functions beside malloc ---- */

static void test_functions(void) {
  const size_t page = (size_t)sysconf(_SC_PAGESIZE);
  for (size_t size = 1; size < 3000000; size = size * 3 + 1) {
    char *p = ours(malloc(size));
    REQUIRE(malloc_usable_size(p) >= size);
    memset(p, 1, malloc_usable_size(p));
    p = ours(realloc(p, size * 2));
    REQUIRE(p[size - 1] == 1);
    p = ours(reallocarray(p, size, 3));
    REQUIRE(p[size - 1] == 1 && malloc_usable_size(p) >= 3 * size);
    free(p);
    for (size_t alignment = sizeof(void *); alignment <= 1 << 20; alignment *= 4) {
      void *q = NULL;
      REQUIRE(posix_memalign(&q, alignment, size) == 0);
      REQUIRE((size_t)ours(q) % alignment == 0 && malloc_usable_size(q) >= size);
      memset(q, 2, size);
      free(q);
      q = ours(aligned_alloc(alignment, alignment));
      REQUIRE((size_t)q % alignment == 0);
      free(q);
      q = ours(memalign(alignment, size));
      REQUIRE((size_t)q % alignment == 0);
      q = ours(realloc(q, size + 1000));
      free(q);
    }
    p = ours(valloc(size));
    REQUIRE((size_t)p % page == 0);
    free(p);
    p = ours(pvalloc(size));
    REQUIRE((size_t)p % page == 0 &&
            malloc_usable_size(p) >= (size + page - 1) / page * page);
    memset(p, 3, (size + page - 1) / page * page);
    free(p);
  }
  void *volatile none = NULL;
  REQUIRE(malloc_usable_size(none) == 0);
  void *q = environ;
  REQUIRE(posix_memalign(&q, 24, 100) == EINVAL && q == environ);
  volatile size_t huge = (size_t)-1 / 2;
  errno = 0;
  REQUIRE(malloc(huge) == NULL && errno == ENOMEM);
  errno = 0;
  REQUIRE(calloc(huge, 4) == NULL && errno == ENOMEM);
  errno = 0;
  REQUIRE(reallocarray(NULL, huge, 4) == NULL && errno == ENOMEM);
  q = malloc(0);
  REQUIRE(q != NULL);
  free(q);
}

/* Functions of the C library that allocate for their callers. */
static void test_library_functions(void) {
  char *text = NULL;
  REQUIRE(asprintf(&text, "%0*d", 5000, 1) == 5000);
  free(ours(text));
  free(ours(strdup("text")));
  free(ours(strndup("text", 2)));
  free(ours(realpath("/", NULL)));
  free(ours(getcwd(NULL, 0)));
  struct dirent **names = NULL;
  const int count = scandir("/", &names, NULL, alphasort);
  REQUIRE(count > 0);
  for (int i = 0; i < count; i++) free(ours(names[i]));
  free(ours(names));
  size_t size = 0;
  text = NULL;
  FILE *stream = open_memstream(&text, &size);
  for (int i = 0; i < 10000; i++) fprintf(stream, "%d\n", i);
  REQUIRE(fclose(stream) == 0 && size == 48890);
  char *line = NULL;
  size_t room = 0;
  stream = fmemopen(text, size, "r");
  for (int i = 0; i < 10000; i++)
    REQUIRE(getline(&line, &room, stream) > 0 && atoi(line) == i);
  fclose(stream);
  free(ours(line));
  free(ours(text));
  REQUIRE(setenv("MIRT_TEST_VARIABLE", "value", 1) == 0);
}

/* ---- the end of the process ---- */

static void allocate_at_exit(void) {
  churn(1, 500);
  free(ours(malloc(100)));
}

int main(int argc, char **argv) {
  REQUIRE(argc == 2);
  find_mirt();
  REQUIRE(atexit(allocate_at_exit) == 0);
  test_functions();
  test_library_functions();
  test_libraries(argv[1]);
  test_ends_of_threads();
  test_forks();
  /* One that still allocates while the process ends. */
  stop = 0;
  pthread_t thread;
  REQUIRE(pthread_create(&thread, NULL, churn_until_stopped, NULL) == 0);
  puts("all is well");
  return 0;
}
