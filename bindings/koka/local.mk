# A program in the shape of Koka's runtime, twice: with calls of mimalloc.h, and with inline
# allocation (bindings/koka/small.h).

koka_objects = bindings/koka/object.h bindings/koka/object.c bindings/koka/data.h \
	bindings/koka/data.c bindings/koka/small.h
koka_sources = $(koka_objects) bindings/koka/main.c

noinst_PROGRAMS += bindings/koka/koka-calls bindings/koka/koka-inline

bindings_koka_koka_calls_SOURCES = $(koka_sources)
bindings_koka_koka_calls_CPPFLAGS = $(PUBLIC_CPPFLAGS) -DKOKA_INLINE=0
bindings_koka_koka_calls_LDADD = libmirt.la $(ATOMIC_OPS_LIBS)
bindings_koka_koka_calls_LDFLAGS = -no-install

bindings_koka_koka_inline_SOURCES = $(koka_sources)
bindings_koka_koka_inline_CPPFLAGS = $(PUBLIC_CPPFLAGS) -DKOKA_INLINE=1
bindings_koka_koka_inline_LDADD = libmirt.la $(ATOMIC_OPS_LIBS)
bindings_koka_koka_inline_LDFLAGS = -no-install

# ---- tests ----

tests_test_koka_calls_SOURCES = tests/test_koka.c tests/test.h $(koka_objects)
tests_test_koka_calls_CPPFLAGS = $(tests_cppflags) -DKOKA_INLINE=0
tests_test_koka_calls_LDADD = libmirt.la $(CHECK_LIBS) $(ATOMIC_OPS_LIBS)
tests_test_koka_calls_LDFLAGS = -no-install

tests_test_koka_inline_SOURCES = tests/test_koka.c tests/test.h $(koka_objects)
tests_test_koka_inline_CPPFLAGS = $(tests_cppflags) -DKOKA_INLINE=1
tests_test_koka_inline_LDADD = libmirt.la $(CHECK_LIBS) $(ATOMIC_OPS_LIBS)
tests_test_koka_inline_LDFLAGS = -no-install

if TESTS_ENABLED
check_PROGRAMS += tests/test_koka_calls tests/test_koka_inline
TESTS += tests/test_koka.sh
endif
EXTRA_DIST += tests/test_koka.sh

# ---- benchmarks: BENCHFLAGS are options of bench.py, for example --quick ----

EXTRA_PROGRAMS += bindings/koka/bench/small
bindings_koka_bench_small_SOURCES = bindings/koka/bench/small.c bindings/koka/small.h \
	tests/bench/bench.h tests/bench/bench.c
bindings_koka_bench_small_CPPFLAGS = $(PUBLIC_CPPFLAGS)
bindings_koka_bench_small_CFLAGS = $(AM_CFLAGS) -O2 -fno-builtin-malloc
bindings_koka_bench_small_LDADD = libmirt.la -ldl
bindings_koka_bench_small_LDFLAGS = -no-install

.PHONY: bench-koka
bench-koka: bindings/koka/bench/small$(EXEEXT) bindings/koka/koka-calls$(EXEEXT) \
		bindings/koka/koka-inline$(EXEEXT)
	$(bench_python) $(srcdir)/bindings/koka/bench/bench.py --programs bindings/koka $(BENCHFLAGS)

EXTRA_DIST += bindings/koka/README.md bindings/koka/bench/bench.py
