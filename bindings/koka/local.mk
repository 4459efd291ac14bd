# A program in the shape of Koka's runtime, twice: with calls of mimalloc.h, and with inline
# allocation.

koka_sources = bindings/koka/object.h bindings/koka/object.c bindings/koka/data.h \
	bindings/koka/data.c bindings/koka/main.c

noinst_PROGRAMS += bindings/koka/koka-calls bindings/koka/koka-inline

bindings_koka_koka_calls_SOURCES = $(koka_sources)
bindings_koka_koka_calls_CPPFLAGS = $(PUBLIC_CPPFLAGS) -DKOKA_INLINE=0
bindings_koka_koka_calls_LDADD = libmirt.la $(ATOMIC_OPS_LIBS)
bindings_koka_koka_calls_LDFLAGS = -no-install

bindings_koka_koka_inline_SOURCES = $(koka_sources)
bindings_koka_koka_inline_CPPFLAGS = $(PUBLIC_CPPFLAGS) -DKOKA_INLINE=1
bindings_koka_koka_inline_LDADD = libmirt.la $(ATOMIC_OPS_LIBS)
bindings_koka_koka_inline_LDFLAGS = -no-install

.PHONY: bench-koka
bench-koka: bindings/koka/koka-calls$(EXEEXT) bindings/koka/koka-inline$(EXEEXT)
	$(bench_python) $(srcdir)/bindings/koka/bench/run.py --programs bindings/koka \
	  $(BENCHFLAGS)

if TESTS_ENABLED
TESTS += tests/test_koka.sh
endif
EXTRA_DIST += bindings/koka/README.md bindings/koka/bench/run.py tests/test_koka.sh
