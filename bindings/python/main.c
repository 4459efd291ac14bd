/* main.c - mirt-python: python3 with all its memory on mirt.
 *
 * The interpreter is CPython's library, so options, exit codes and the environment are those of
 * python3. The program defines malloc and its relatives too (runtime/malloc/override.c), for
 * what libraries and extension modules allocate behind CPython's back.
 */
#include <mirt/python.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What the arguments and the environment say about memory, before CPython reads them. */
struct choice {
  bool is_mirt;         /* else what PYTHONMALLOC names */
  bool has_debug_hooks; /* CPython's own checks, on top of mirt */
};

/* The options before the script, -c or -m: -E and -I turn off the environment. */
static void read_options(int argc, char **argv, bool *uses_environment, bool *is_dev) {
  for (int i = 1; i < argc && argv[i][0] == '-' && argv[i][1] != '\0'; i++) {
    if (strcmp(argv[i], "--") == 0) return;
    if (argv[i][1] == '-') {
      if (strcmp(argv[i], "--check-hash-based-pycs") == 0) i++; /* it has a value */
      continue;
    }
    for (const char *option = &argv[i][1]; *option != '\0'; option++) {
      if (*option == 'c' || *option == 'm') return;
      if (*option == 'E' || *option == 'I') *uses_environment = false;
      if (*option != 'W' && *option != 'X') continue;
      const char *value = option[1] != '\0' ? &option[1] : i + 1 < argc ? argv[++i] : "";
      if (*option == 'X' && strcmp(value, "dev") == 0) *is_dev = true;
      break;
    }
  }
}

static struct choice read_choice(int argc, char **argv) {
  bool uses_environment = true, is_dev = false;
  read_options(argc, argv, &uses_environment, &is_dev);
  const char *dev = uses_environment ? getenv("PYTHONDEVMODE") : NULL;
  if (dev != NULL && dev[0] != '\0') is_dev = true;
  const char *name = uses_environment ? getenv("PYTHONMALLOC") : NULL;
  if (name == NULL || name[0] == '\0') return (struct choice){true, is_dev};
  if (strcmp(name, "default") == 0) return (struct choice){true, false};
  const bool is_debug = strcmp(name, "debug") == 0;
  return (struct choice){is_debug, is_debug};
}

static PyStatus initialize(int argc, char **argv) {
  const struct choice choice = read_choice(argc, argv);
  PyPreConfig before;
  PyPreConfig_InitPythonConfig(&before);
  if (choice.is_mirt) before.allocator = PYMEM_ALLOCATOR_DEFAULT;
  PyStatus status = Py_PreInitializeFromBytesArgs(&before, argc, argv);
  if (PyStatus_Exception(status)) return status;
  if (choice.is_mirt && mirt_python_install(NULL) != 0) return PyStatus_NoMemory();
  if (choice.has_debug_hooks) PyMem_SetupDebugHooks();
  if (PyImport_AppendInittab("mirt", mirt_python_module) != 0) return PyStatus_NoMemory();

  PyConfig config;
  PyConfig_InitPythonConfig(&config);
  status = PyConfig_SetBytesArgv(&config, argc, argv);
  if (!PyStatus_Exception(status)) status = Py_InitializeFromConfig(&config);
  PyConfig_Clear(&config);
  return status;
}

/* -X mirt-report: mirt.report() on standard error at the end, while everything is there. */
static bool report_at_exit(void) {
  PyObject *options = PySys_GetObject("_xoptions"); /* borrowed */
  PyObject *wanted =
      options == NULL ? NULL : PyDict_GetItemString(options, "mirt-report");
  if (wanted == NULL) return true;
  PyObject *atexit = PyImport_ImportModule("atexit");
  PyObject *mirt = PyImport_ImportModule("mirt");
  PyObject *print = mirt == NULL ? NULL : PyObject_GetAttrString(mirt, "_print_report");
  PyObject *done = print == NULL || atexit == NULL
                       ? NULL
                       : PyObject_CallMethod(atexit, "register", "O", print);
  Py_XDECREF(atexit);
  Py_XDECREF(mirt);
  Py_XDECREF(print);
  Py_XDECREF(done);
  return done != NULL;
}

int main(int argc, char **argv) {
  const PyStatus status = initialize(argc, argv);
  if (PyStatus_IsExit(status)) return status.exitcode; /* --help and the like */
  if (PyStatus_Exception(status)) Py_ExitStatusException(status);
  if (!report_at_exit()) PyErr_Print();
  return Py_RunMain();
}
