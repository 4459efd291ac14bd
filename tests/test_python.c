/* test_python.c - CPython embedded on mirt: what is refused, blocks from before, realloc,
 * threads without the GIL and threads that end, and Python code in an arena that is too small.
 *
 * CPython changes its allocators once per process, so most tests run in children.
 */
#include <mirt/python.h>

#include "test.h"

/* Children end with the number of the line that was wrong; 0 is success. */
#define require(x) \
  do { \
    if (!(x)) { \
      dprintf(STDERR_FILENO, "test_python.c:%d: '%s' is false\n", __LINE__, #x); \
      _exit(1); \
    } \
  } while (0)

/* Nothing was reported. */
static void require_no_errors(void) {
  for (int code = 0; code < ERROR_CODES; code++) {
    if (errors_of(code) == 0) continue;
    dprintf(STDERR_FILENO, "%zu errors %d\n", errors_of(code), code);
    _exit(1);
  }
}

#define assert_child(f) ck_assert_int_eq(child_run(f, NULL), 0)

static size_t live_blocks(int domain) {
  mirt_stats_t stats;
  require(mirt_stats_tag(mirt_python_domain_tag(domain), &stats));
  return stats.live_blocks;
}

static int domain_of(const void *p) { return mirt_tag_of(p) - mirt_python_domain_tag(0); }

/* ---- installing ---- */

static void install_wrongly(void *unused) {
  (void)unused;
  const mirt_python_options_t wrong[] = {
      {.first_tag = -1},        {.first_tag = MIRT_TAG_MAX - 1},
      {.first_tag = INT32_MAX}, {.first_tag = INT32_MIN},
      {.arena = 4000},          {.arena = -3}};
  for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
    require(mirt_python_install(&wrong[i]) == EINVAL);
    require(!mirt_python_is_installed());
  }
  require(mirt_python_domain_tag(MIRT_PYTHON_MEM) == -1);
  mi_heap_t *heap = mi_heap_new_ex(41, false, 0);
  require(mi_heap_malloc(heap, 10) != NULL);
  require(mirt_python_install(
              &(mirt_python_options_t){.first_tag = 40, .sealed = true}) == EBUSY);
  require(!mirt_python_is_installed());
  require(mirt_python_install(
              &(mirt_python_options_t){.first_tag = 50, .sealed = true}) == 0);
  require(mirt_tag_is_sealed(50) && mirt_tag_is_sealed(52) && !mirt_tag_is_sealed(53));
  require(mirt_python_is_installed());
  require(mirt_python_install(NULL) == EBUSY);
  require(mirt_python_domain_tag(MIRT_PYTHON_OBJECT) == 52);
  require(strcmp(mirt_python_domain_name(MIRT_PYTHON_RAW), "raw") == 0);
}

START_TEST(what_is_refused) { assert_child(install_wrongly); }
END_TEST

/* Blocks that CPython's own allocators handed out, of each domain and many sizes, are resized and
 * freed by those. */
static void install_late(void *unused) {
  (void)unused;
  enum { SIZES = 40 };
  void *raw[SIZES], *mem[SIZES], *object[SIZES];
  for (size_t i = 0; i < SIZES; i++) {
    raw[i] = PyMem_RawMalloc(i * i * i);
    mem[i] = PyMem_Malloc(i * i * i);
    object[i] = PyObject_Calloc(i, i * i);
    memset(raw[i], (int)i, i * i * i);
    memset(mem[i], (int)i, i * i * i);
  }
  require(mirt_python_install(NULL) == 0);
  for (size_t i = 0; i < SIZES; i++) {
    raw[i] = PyMem_RawRealloc(raw[i], 2 * i * i * i);
    mem[i] = PyMem_Realloc(mem[i], 3 * i * i * i);
    require(bytes_are(raw[i], i * i * i, (unsigned char)i));
    require(bytes_are(mem[i], i * i * i, (unsigned char)i));
    require(bytes_are(object[i], i * i * i, 0));
    PyMem_RawFree(raw[i]);
    PyMem_Free(mem[i]);
    PyObject_Free(object[i]);
  }
  require_no_errors();
  require(live_blocks(MIRT_PYTHON_RAW) == 0 && live_blocks(MIRT_PYTHON_OBJECT) == 0);
}

START_TEST(blocks_from_before) { assert_child(install_late); }
END_TEST

static void allocate_in_domains(void *unused) {
  (void)unused;
  require(mirt_python_install(NULL) == 0);
  const size_t sizes[] = {0, 1, 16, 100, 512, 513, 4000, 70000, 3 << 20};
  for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
    void *raw = PyMem_RawMalloc(sizes[i]), *mem = PyMem_Calloc(1, sizes[i]);
    void *object = PyObject_Malloc(sizes[i]);
    require(domain_of(raw) == MIRT_PYTHON_RAW && domain_of(mem) == MIRT_PYTHON_MEM &&
            domain_of(object) == MIRT_PYTHON_OBJECT);
    require(bytes_are(mem, sizes[i], 0));
    memset(object, 0x3C, sizes[i]);
    for (size_t k = 0; k < sizeof sizes / sizeof sizes[0]; k++) {
      object = PyObject_Realloc(object, sizes[k]);
      require(object != NULL && domain_of(object) == MIRT_PYTHON_OBJECT);
      memset(object, 0x3C, sizes[k]);
    }
    PyMem_RawFree(raw);
    PyMem_Free(mem);
    PyObject_Free(object);
  }
  PyMem_Free(NULL);
  void *p = PyMem_Realloc(NULL, 100);
  require(domain_of(p) == MIRT_PYTHON_MEM);
  PyMem_Free(p);
  require(PyMem_Malloc((size_t)PY_SSIZE_T_MAX) == NULL);
  require(PyMem_Calloc((size_t)PY_SSIZE_T_MAX, 2) == NULL);
  for (int i = 0; i < MIRT_PYTHON_DOMAINS; i++) require(live_blocks(i) == 0);
}

START_TEST(domains_have_tags) { assert_child(allocate_in_domains); }
END_TEST

/* ---- threads ---- */

#define BLOCKS 500

static void *shared[4][BLOCKS];
static pthread_barrier_t barrier;
static pthread_key_t late_key;

/* The system runs this when the thread's heaps may be gone. */
static void allocate_late(void *value) {
  void **block = value;
  if (*block == NULL) pthread_setspecific(late_key, value); /* and once more */
  *block = PyMem_RawRealloc(*block, 3000);
  void *p = PyMem_RawCalloc(10, 10);
  require(domain_of(*block) == MIRT_PYTHON_RAW && domain_of(p) == MIRT_PYTHON_RAW);
  require(bytes_are(p, 100, 0));
  PyMem_RawFree(p);
}

static void *late_blocks[4];

/* Each frees what its neighbour has allocated. */
static void *use_raw_domain(void *argument) {
  const size_t number = *(size_t *)argument;
  pthread_setspecific(late_key, &late_blocks[number]);
  struct dice dice = dice_new(number);
  for (size_t round = 0; round < (size_t)TEST_ROUNDS(50); round++) {
    for (size_t i = 0; i < BLOCKS; i++) {
      const size_t size = dice_roll(&dice, 2000);
      shared[number][i] = PyMem_RawMalloc(size);
      memset(shared[number][i], (int)number, size);
    }
    pthread_barrier_wait(&barrier);
    for (size_t i = 0; i < BLOCKS; i++) {
      void **block = &shared[(number + 1) % 4][i];
      if (i % 3 == 0) *block = PyMem_RawRealloc(*block, 1 + dice_roll(&dice, 4000));
      require(domain_of(*block) == MIRT_PYTHON_RAW);
      PyMem_RawFree(*block);
    }
    pthread_barrier_wait(&barrier);
  }
  return NULL;
}

static void use_threads(void *unused) {
  (void)unused;
  require(pthread_key_create(&late_key, allocate_late) == 0);
  require(mirt_python_install(NULL) == 0);
  pthread_barrier_init(&barrier, NULL, 4);
  size_t numbers[4] = {0, 1, 2, 3};
  threads_run(4, use_raw_domain, numbers, sizeof numbers[0]);
  require(live_blocks(MIRT_PYTHON_RAW) == 4);
  for (size_t i = 0; i < 4; i++) PyMem_RawFree(late_blocks[i]);
  require(live_blocks(MIRT_PYTHON_RAW) == 0);
  require_no_errors();
}

START_TEST(any_thread_may_use_raw_memory) {
  if (TEST_THREAD_SANITIZER) {
    printf("skip: ThreadSanitizer lets no child make threads\n");
    return;
  }
  assert_child(use_threads);
}
END_TEST

/* ---- the interpreter ---- */

static void run_python(const char *source) { require(PyRun_SimpleString(source) == 0); }

static void run_interpreter(void *unused) {
  (void)unused;
  require(mirt_python_install(NULL) == 0);
  require(PyImport_AppendInittab("mirt", mirt_python_module) == 0);
  for (int i = 0; i < 2; i++) {
    Py_InitializeEx(0);
    run_python(
        "import mirt\n"
        "before = mirt.snapshot()\n"
        "kept = [bytes(1000 + i) for i in range(1000)] + [(i, str(i)) for i in "
        "range(5000)]\n"
        "after = mirt.snapshot()\n"
        "most = mirt.compare(before, after)[0]\n"
        "assert mirt.installed and most.domain == 'object' and most.bytes_diff > 100000, "
        "most\n"
        "stats = mirt.stats()['object']\n"
        "assert stats['live_bytes'] > 1500000 and stats['committed'] >= "
        "stats['live_bytes']\n"
        "total = sum(b for (d, s), (n, b) in mirt.snapshot().items() if d == 'object')\n"
        "assert abs(total - mirt.stats()['object']['live_bytes']) < 100000, total\n"
        "assert mirt.tags() == {'raw': 1, 'mem': 2, 'object': 3}\n"
        "import json\n"
        "assert json.loads(mirt.heap_map())\n"
        "del kept\n"
        "down = mirt.compare(after, mirt.snapshot())\n"
        "assert sum(d.bytes_diff for d in down) < -1000000\n"
        "assert mirt.collect() >= 0\n"
        "for wrong in ({}, 1), ({1: 2}, {}), ({}, {('a', 'b'): (1, 2)}):\n"
        "    try:\n"
        "        mirt.compare(*wrong)\n"
        "    except TypeError:\n"
        "        continue\n"
        "    raise AssertionError(wrong)\n");
    PyThreadState *main_state = PyThreadState_Get();
    PyThreadState *other = Py_NewInterpreter();
    require(other != NULL);
    run_python("import threading, mirt\nx = [object() for i in range(10000)]\n");
    Py_EndInterpreter(other);
    PyThreadState_Swap(main_state);
    require(Py_FinalizeEx() == 0);
  }
  require_no_errors();
}

START_TEST(interpreters_come_and_go) { assert_child(run_interpreter); }
END_TEST

static void run_in_small_arena(void *unused) {
  (void)unused;
  mi_arena_id_t arena;
  require(mi_reserve_os_memory_ex(48 << 20, true, false, true, &arena) == 0);
  require(mirt_python_install(&(mirt_python_options_t){.first_tag = 7, .arena = arena}) ==
          0);
  Py_InitializeEx(0);
  run_python("def grow():\n"
             "    kept = []\n"
             "    try:\n"
             "        while True: kept.append(bytearray(len(kept)))\n"
             "    except MemoryError:\n"
             "        return len(kept)\n"
             "first = grow()\n"
             "assert first > 5000, first\n"
             "for i in range(5): assert grow() > first * 0.9\n"
             "try:\n"
             "    x = 'a' * (100 << 20)\n"
             "    raise AssertionError\n"
             "except MemoryError:\n"
             "    pass\n"
             "import json\n"
             "assert json.loads('[1, 2]') == [1, 2]\n");
  require(mi_arena_contains(arena, Py_None) == false); /* that one is static */
  PyObject *list = PyList_New(100);
  require(mi_arena_contains(arena, list) && mirt_tag_of(list) == 9);
  Py_DECREF(list);
  require(Py_FinalizeEx() == 0);
  require(errors_total() == errors_of(ENOMEM));
}

START_TEST(memory_may_be_short) { assert_child(run_in_small_arena); }
END_TEST

int main(void) {
  Suite *suite = suite_create("python");
  TCase *domains = case_begin(suite, "domains");
  tcase_add_test(domains, what_is_refused);
  tcase_add_test(domains, blocks_from_before);
  tcase_add_test(domains, domains_have_tags);
  tcase_add_test(domains, any_thread_may_use_raw_memory);
  TCase *interpreter = case_begin(suite, "interpreter");
  tcase_add_test(interpreter, interpreters_come_and_go);
  tcase_add_test(interpreter, memory_may_be_short);
  return suite_run(suite);
}
