# The binding of CPython: a library for programs that embed it, and mirt-python.

if PYTHON
lib_LTLIBRARIES += libmirt-python.la
mirtlayer_HEADERS += bindings/python/mirt/python.h
pkgconfig_DATA += mirt-python.pc
bin_PROGRAMS += bindings/python/mirt-python
dist_man_MANS += bindings/python/mirt-python.1
endif

python_sources = bindings/python/mirt/python.h bindings/python/mirt_python.c \
	bindings/python/module.c
# CPython's headers are not made for our warnings.
python_cppflags = $(PUBLIC_CPPFLAGS) -I$(srcdir)/bindings/python $(PYTHON_CFLAGS)
python_cflags = $(AM_CFLAGS) -Wno-pedantic -Wno-missing-field-initializers

libmirt_python_la_SOURCES = $(python_sources)
libmirt_python_la_CPPFLAGS = $(python_cppflags)
libmirt_python_la_CFLAGS = $(python_cflags) -fvisibility=default
libmirt_python_la_LIBADD = libmirt.la $(PYTHON_LIBS)
libmirt_python_la_LDFLAGS = -version-info 0:0:0 -export-symbols-regex '^mirt_python_' \
	$(NODELETE_LDFLAGS)

# All in one program, so that malloc is ours in the whole process, and no call goes through
# a table. A sanitizer has a malloc of its own.
bindings_python_mirt_python_SOURCES = bindings/python/main.c $(python_sources)
if !SANITIZER
bindings_python_mirt_python_SOURCES += runtime/malloc/override.c
endif
bindings_python_mirt_python_CPPFLAGS = $(AM_CPPFLAGS) -I$(srcdir)/bindings/python \
	$(PYTHON_CFLAGS) -DMIRT_OVERRIDE=1
bindings_python_mirt_python_CFLAGS = $(python_cflags) $(MIRT_OVERRIDE_CFLAGS)
bindings_python_mirt_python_LDADD = $(core_libraries) $(PYTHON_PROGRAM_LIBS)
bindings_python_mirt_python_LDFLAGS = $(PYTHON_PROGRAM_LDFLAGS)

# The same program without mirt, to compare with.
EXTRA_PROGRAMS += bindings/python/bench/plain
bindings_python_bench_plain_SOURCES = bindings/python/bench/plain.c
bindings_python_bench_plain_CPPFLAGS = $(PYTHON_CFLAGS)
bindings_python_bench_plain_CFLAGS = $(python_cflags)
bindings_python_bench_plain_LDADD = $(PYTHON_PROGRAM_LIBS)
bindings_python_bench_plain_LDFLAGS = $(PYTHON_PROGRAM_LDFLAGS)

EXTRA_DIST += bindings/python/mirt-python.pc.in

# ---- tests ----

if PYTHON
if TESTS_ENABLED
check_PROGRAMS += tests/test_python
TESTS += tests/test_python_program.sh
endif
endif
tests_test_python_SOURCES = tests/test_python.c tests/test.h
tests_test_python_CPPFLAGS = $(tests_cppflags) -I$(srcdir)/bindings/python $(PYTHON_CFLAGS)
tests_test_python_CFLAGS = $(python_cflags)
tests_test_python_LDADD = libmirt-python.la libmirt.la $(PYTHON_LIBS) $(CHECK_LIBS)
tests_test_python_LDFLAGS = -no-install
EXTRA_DIST += tests/test_python_program.sh bindings/python/tests/compare_results.py \
	bindings/python/tests/test_mirt.py bindings/python/README.md bindings/python/freethreaded.md

# More of CPython's own tests than `make check` runs: minutes.
.PHONY: check-python
check-python: bindings/python/mirt-python$(EXEEXT)
	top_srcdir='$(abs_top_srcdir)' top_builddir='$(abs_top_builddir)' \
	SANITIZER='$(enable_sanitizer)' PYTHON_TESTS=all \
	$(TEST_SHELL) $(srcdir)/tests/test_python_program.sh

# Time and memory beside CPython's own allocator; BENCHFLAGS='--rounds 11' for example.
.PHONY: bench-python
bench-python: bindings/python/mirt-python$(EXEEXT) \
		bindings/python/bench/plain$(EXEEXT)
	$(bench_python) $(srcdir)/bindings/python/bench/run.py \
	  --mirt bindings/python/mirt-python$(EXEEXT) --python bindings/python/bench/plain$(EXEEXT) $(BENCHFLAGS)
EXTRA_DIST += bindings/python/bench/run.py bindings/python/bench/objects.py \
	bindings/python/bench/roundtrip.py bindings/python/bench/strings.py \
	bindings/python/bench/threads.py bindings/python/bench/tuples.py
