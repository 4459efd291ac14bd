/* module.c - the module `mirt` of Python: what a program may ask about its memory.
 *
 * All but blocks of the raw domain come and go under the GIL only, so who holds it sees them
 * as they are. Counting looks at the planes of pages and at no block, and allocates nothing until
 * it is done: what it tells does not contain itself.
 */
#include <mirt/python.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- counting ---- */

/* Blocks of each domain by size. The sizes of small blocks are few; those of large blocks are
 * counted in eight steps per power of two. */
#define SIZES_MAX 512
#define LARGE ((size_t)1 << 16)

struct count {
  size_t size; /* bytes of each, or at most; 0: nothing here yet */
  size_t blocks, bytes;
};

struct census {
  struct count counts[MIRT_PYTHON_DOMAINS][SIZES_MAX];
};

static size_t size_step(size_t size) {
  if (size <= LARGE) return size;
  const int bits = 64 - __builtin_clzll(size - 1);
  const size_t step = (size_t)1 << (bits - 4);
  return (size + step - 1) / step * step;
}

static bool count_area(const mi_heap_t *heap, const mi_heap_area_t *area, void *block,
                       size_t block_size, void *argument) {
  (void)heap, (void)block;
  struct census *census = argument;
  const int domain = area->heap_tag - mirt_python_domain_tag(0);
  if (domain < 0 || domain >= MIRT_PYTHON_DOMAINS || area->used == 0) return true;
  const size_t size = size_step(block_size);
  struct count *count = census->counts[domain], *last = &count[SIZES_MAX - 1];
  while (count->size != size && count->size != 0 && count < last) count++;
  count->size = size;
  count->blocks += area->used;
  count->bytes += area->used * block_size;
  return true;
}

static int by_size(const void *a, const void *b) {
  const size_t x = ((const struct count *)a)->size, y = ((const struct count *)b)->size;
  return x < y ? -1 : x > y;
}

/* Returns NULL with an exception. */
static struct census *take_census(void) {
  /* Not from a domain that is being counted. */
  struct census *census = mi_zalloc(sizeof *census);
  if (census == NULL) {
    PyErr_NoMemory();
    return NULL;
  }
  for (int i = 0; mirt_python_is_installed() && i < MIRT_PYTHON_DOMAINS; i++) {
    mirt_visit_tag(mirt_python_domain_tag(i), false, count_area, census);
  }
  for (int i = 0; i < MIRT_PYTHON_DOMAINS; i++) {
    size_t sizes = 0;
    while (sizes < SIZES_MAX && census->counts[i][sizes].size != 0) sizes++;
    qsort(census->counts[i], sizes, sizeof census->counts[i][0], by_size);
  }
  return census;
}

/* ---- functions ---- */

static PyObject *domain_stats(int domain) {
  mirt_stats_t stats = {0};
  if (mirt_python_is_installed()) mirt_stats_tag(mirt_python_domain_tag(domain), &stats);
  return Py_BuildValue("{s:n,s:n,s:n,s:n,s:n,s:n}", "live_blocks",
                       (Py_ssize_t)stats.live_blocks, "live_bytes",
                       (Py_ssize_t)stats.live_bytes, "pages", (Py_ssize_t)stats.pages,
                       "committed", (Py_ssize_t)stats.committed, "peak",
                       (Py_ssize_t)stats.peak, "abandoned", (Py_ssize_t)stats.abandoned);
}

/* {name: value(domain)}; a value that is NULL stands for an exception. */
static PyObject *for_each_domain(PyObject *(*value)(int)) {
  PyObject *all = PyDict_New();
  for (int i = 0; all != NULL && i < MIRT_PYTHON_DOMAINS; i++) {
    PyObject *one = value(i);
    if (one == NULL || PyDict_SetItemString(all, mirt_python_domain_name(i), one) != 0) {
      Py_CLEAR(all);
    }
    Py_XDECREF(one);
  }
  return all;
}

PyDoc_STRVAR(stats_doc,
             "stats() -> dict\n--\n\n"
             "What each domain holds: {'raw' | 'mem' | 'object': {'live_blocks',\n"
             "'live_bytes', 'pages', 'committed' and 'peak' (bytes of pages now, and at\n"
             "most), 'abandoned' (pages that ended threads have left)}}.");

static PyObject *module_stats(PyObject *self, PyObject *unused) {
  (void)self, (void)unused;
  return for_each_domain(domain_stats);
}

static PyObject *domain_tag(int domain) {
  return PyLong_FromLong(mirt_python_domain_tag(domain));
}

PyDoc_STRVAR(
    tags_doc,
    "tags() -> dict\n--\n\n"
    "The tag of each domain: blocks replace only those with the same one. -1 when\n"
    "Python's memory is not mirt's.");

static PyObject *module_tags(PyObject *self, PyObject *unused) {
  (void)self, (void)unused;
  return for_each_domain(domain_tag);
}

/* A text that grows outside of Python's memory, since what writes it reads that. */
struct text {
  char *bytes;
  size_t length, capacity;
  bool is_short;
};

static void text_add(const char *piece, void *argument) {
  struct text *text = argument;
  const size_t length = strlen(piece);
  if (text->length + length > text->capacity) {
    const size_t capacity = 2 * (text->length + length);
    char *bytes = mi_realloc(text->bytes, capacity);
    text->is_short |= bytes == NULL;
    if (bytes == NULL) return;
    text->bytes = bytes;
    text->capacity = capacity;
  }
  memcpy(text->bytes + text->length, piece, length);
  text->length += length;
}

PyDoc_STRVAR(
    heap_map_doc,
    "heap_map() -> str\n--\n\n"
    "A map of all arenas, slice by slice, as JSON: json.loads() reads it, and the\n"
    "program mirt-arena-map draws it.");

static PyObject *module_heap_map(PyObject *self, PyObject *unused) {
  (void)self, (void)unused;
  struct text text = {0};
  mirt_arena_map(0, text_add, &text);
  PyObject *result =
      text.is_short ? PyErr_NoMemory()
                    : PyUnicode_FromStringAndSize(text.bytes, (Py_ssize_t)text.length);
  mi_free(text.bytes);
  return result;
}

static size_t committed(void) {
  mi_stats_t_decl(stats);
  return mi_stats_get(&stats) ? (size_t)stats.committed.current : 0;
}

PyDoc_STRVAR(
    collect_doc,
    "collect() -> int\n--\n\n"
    "Give free memory back to the system: pages without a block of this thread's,\n"
    "and all that waits to go back. Returns by how many bytes the process has\n"
    "less. It looks for no garbage; gc.collect() does.");

static PyObject *module_collect(PyObject *self, PyObject *unused) {
  (void)self, (void)unused;
  const size_t before = committed();
  Py_BEGIN_ALLOW_THREADS;
  mi_collect(true);
  Py_END_ALLOW_THREADS;
  const size_t after = committed();
  return PyLong_FromSize_t(before > after ? before - after : 0);
}

PyDoc_STRVAR(
    snapshot_doc,
    "snapshot() -> dict\n--\n\n"
    "How many blocks are live: {(domain, size): (blocks, bytes)}. The size is that\n"
    "of the block, in bytes, so several sizes asked for share one; beyond 64 KiB,\n"
    "it is an upper bound. Compare two with compare().");

static int snapshot_domain(PyObject *all, int domain, const struct count *count) {
  for (; count < &count[SIZES_MAX] && count->size != 0; count++) {
    PyObject *key =
        Py_BuildValue("sn", mirt_python_domain_name(domain), (Py_ssize_t)count->size);
    PyObject *value =
        Py_BuildValue("nn", (Py_ssize_t)count->blocks, (Py_ssize_t)count->bytes);
    const bool is_set =
        key != NULL && value != NULL && PyDict_SetItem(all, key, value) == 0;
    Py_XDECREF(key);
    Py_XDECREF(value);
    if (!is_set) return -1;
  }
  return 0;
}

static PyObject *module_snapshot(PyObject *self, PyObject *unused) {
  (void)self, (void)unused;
  struct census *census = take_census();
  if (census == NULL) return NULL;
  PyObject *all = PyDict_New();
  for (int i = 0; all != NULL && i < MIRT_PYTHON_DOMAINS; i++) {
    if (snapshot_domain(all, i, census->counts[i]) != 0) Py_CLEAR(all);
  }
  mi_free(census);
  return all;
}

static PyTypeObject *difference_type;

static PyStructSequence_Field difference_fields[] = {
    {"domain", "'raw', 'mem' or 'object'"},
    {"size", "bytes of a block"},
    {"blocks", "live in the new snapshot"},
    {"blocks_diff", "more than in the old one"},
    {"bytes", "live in the new snapshot"},
    {"bytes_diff", "more than in the old one"},
    {NULL, NULL}};

static PyStructSequence_Desc difference_description = {
    "mirt.Difference", "Blocks of one domain and size in two snapshots.",
    difference_fields, 6};

/* Returns a tuple that sorts by how much has changed, with the difference as its last
 * element; or NULL with an exception. */
static PyObject *difference(PyObject *key, PyObject *old, PyObject *new) {
  const char *domain;
  Py_ssize_t size, blocks = 0, bytes = 0, old_blocks = 0, old_bytes = 0;
  if (!PyTuple_Check(key) || (new != NULL && !PyTuple_Check(new)) ||
      (old != NULL && !PyTuple_Check(old))) {
    PyErr_SetString(PyExc_TypeError, "a snapshot is {(domain, size): (blocks, bytes)}");
    return NULL;
  }
  if (!PyArg_ParseTuple(key, "sn", &domain, &size) ||
      (new != NULL && !PyArg_ParseTuple(new, "nn", &blocks, &bytes)) ||
      (old != NULL && !PyArg_ParseTuple(old, "nn", &old_blocks, &old_bytes))) {
    return NULL;
  }
  PyObject *result = PyStructSequence_New(difference_type);
  if (result == NULL) return NULL;
  const Py_ssize_t change = bytes - old_bytes;
  PyObject *values[] = {
      PyUnicode_FromString(domain), PyLong_FromSsize_t(size),
      PyLong_FromSsize_t(blocks),   PyLong_FromSsize_t(blocks - old_blocks),
      PyLong_FromSsize_t(bytes),    PyLong_FromSsize_t(change)};
  bool is_whole = true;
  for (Py_ssize_t i = 0; i < 6; i++) {
    is_whole &= values[i] != NULL;
    PyStructSequence_SetItem(result, i, values[i]);
  }
  if (is_whole) return Py_BuildValue("nN", change < 0 ? change : -change, result);
  Py_DECREF(result);
  return NULL;
}

/* Add to a list what a key says in both snapshots; returns -1 with an exception. */
static int add_difference(PyObject *list, PyObject *key, PyObject *old, PyObject *new) {
  PyObject *one = difference(key, old, new);
  const int error = one == NULL ? -1 : PyList_Append(list, one);
  Py_XDECREF(one);
  return error;
}

/* Nobody else has the dictionaries: a key that is compared may run any code. */
static int add_differences(PyObject *list, PyObject *old, PyObject *new) {
  PyObject *key, *value;
  for (Py_ssize_t i = 0; PyDict_Next(new, &i, &key, &value);) {
    PyObject *before = PyDict_GetItemWithError(old, key);
    if (before == NULL && PyErr_Occurred()) return -1;
    if (add_difference(list, key, before, value) != 0) return -1;
  }
  for (Py_ssize_t i = 0; PyDict_Next(old, &i, &key, &value);) {
    const int is_there = PyDict_Contains(new, key);
    if (is_there < 0) return -1;
    if (is_there == 0 && add_difference(list, key, value, NULL) != 0) return -1;
  }
  return 0;
}

PyDoc_STRVAR(compare_doc,
             "compare(old, new) -> list\n--\n\n"
             "What has changed between two snapshots, the most bytes first: a\n"
             "mirt.Difference(domain, size, blocks, blocks_diff, bytes, bytes_diff) for\n"
             "each domain and size.");

static PyObject *module_compare(PyObject *self, PyObject *arguments) {
  (void)self;
  PyObject *old, *new;
  if (!PyArg_ParseTuple(arguments, "O!O!:compare", &PyDict_Type, &old, &PyDict_Type,
                        &new)) {
    return NULL;
  }
  PyObject *list = PyList_New(0);
  old = PyDict_Copy(old);
  new = PyDict_Copy(new);
  const bool is_made = list != NULL && old != NULL && new != NULL &&
                       add_differences(list, old, new) == 0 && PyList_Sort(list) == 0;
  Py_XDECREF(old);
  Py_XDECREF(new);
  if (!is_made) {
    Py_XDECREF(list);
    return NULL;
  }
  for (Py_ssize_t i = 0; i < PyList_GET_SIZE(list); i++) {
    PyObject *one = PyTuple_GET_ITEM(PyList_GET_ITEM(list, i), 1);
    Py_INCREF(one);
    PyList_SetItem(list, i, one);
  }
  return list;
}

PyDoc_STRVAR(report_doc, "report() -> str\n--\n\n"
                         "What stats() says, as a table.");

static PyObject *module_report(PyObject *self, PyObject *unused) {
  (void)self, (void)unused;
  PyObject *text = PyUnicode_FromString(
      "domain         blocks           bytes    pages       committed            peak\n");
  for (int i = 0; text != NULL && i < MIRT_PYTHON_DOMAINS; i++) {
    mirt_stats_t stats = {0};
    if (mirt_python_is_installed()) mirt_stats_tag(mirt_python_domain_tag(i), &stats);
    char line[128];
    snprintf(line, sizeof line, "%-8s %12zu %15zu %8zu %15zu %15zu\n",
             mirt_python_domain_name(i), stats.live_blocks, stats.live_bytes, stats.pages,
             stats.committed, stats.peak);
    PyUnicode_AppendAndDel(&text, PyUnicode_FromString(line));
  }
  return text;
}

static PyObject *print_report(PyObject *self, PyObject *unused) {
  PyObject *text = module_report(self, unused);
  if (text == NULL) return NULL;
  PySys_FormatStderr("%U", text);
  Py_DECREF(text);
  Py_RETURN_NONE;
}

/* ---- the module ---- */

static PyMethodDef functions[] = {
    {"stats", module_stats, METH_NOARGS, stats_doc},
    {"report", module_report, METH_NOARGS, report_doc},
    {"tags", module_tags, METH_NOARGS, tags_doc},
    {"heap_map", module_heap_map, METH_NOARGS, heap_map_doc},
    {"collect", module_collect, METH_NOARGS, collect_doc},
    {"snapshot", module_snapshot, METH_NOARGS, snapshot_doc},
    {"compare", module_compare, METH_VARARGS, compare_doc},
    {"_print_report", print_report, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL}};

PyDoc_STRVAR(
    module_doc,
    "What Python's memory is made of.\n\n"
    "CPython allocates in three domains: 'raw', which needs no GIL, 'mem' for\n"
    "buffers, and 'object'. Numbers of 'raw' are nearly right while other threads\n"
    "run, all others exact.");

static struct PyModuleDef definition = {
    .m_base = PyModuleDef_HEAD_INIT,
    .m_name = "mirt",
    .m_doc = module_doc,
    .m_size = -1,
    .m_methods = functions,
};

PyObject *mirt_python_module(void) {
  PyObject *module = PyModule_Create(&definition);
  if (module == NULL) return NULL;
  if (difference_type == NULL) {
    difference_type = PyStructSequence_NewType(&difference_description);
  }
  Py_XINCREF(difference_type);
  if (difference_type == NULL ||
      PyModule_AddObject(module, "Difference", (PyObject *)difference_type) != 0 ||
      PyModule_AddObject(module, "installed",
                         PyBool_FromLong(mirt_python_is_installed())) != 0) {
    Py_DECREF(module);
    return NULL;
  }
  return module;
}
