# The benchmarks. `make bench` measures mirt beside the allocators that are installed,
# `make bench-quick` does so with fewer patterns; `make bench-purge` measures how they
# give memory back; `make bench-heaps` measures heaps beside those of mimalloc, and `make
# bench-gc` objects and their collection beside mimalloc and bdwgc. BENCHFLAGS are options
# of run.py, heaps.py or gc.py, for example BENCHFLAGS='--only pair --rounds 11'.

# The programs must not be linked with mirt, nor know its headers, and the compiler must
# not remove an allocation because it can tell that nobody needs it.
bench_cflags = $(AM_CFLAGS) -O2 -fno-builtin-malloc -fno-builtin-calloc \
	-fno-builtin-realloc -fno-builtin-free

gc_programs = tests/bench/objects tests/bench/graph-refs tests/bench/graph-pointers
if BDWGC
gc_programs += tests/bench/graph-bdwgc
endif
EXTRA_PROGRAMS += tests/bench/patterns tests/bench/purge tests/bench/heaps $(gc_programs)
CLEANFILES += $(EXTRA_PROGRAMS)

tests_bench_patterns_SOURCES = \
	tests/bench/bench.h \
	tests/bench/bench.c \
	tests/bench/patterns.c \
	tests/bench/single.c \
	tests/bench/threaded.c
tests_bench_patterns_CPPFLAGS =
tests_bench_patterns_CFLAGS = $(bench_cflags)
tests_bench_patterns_LDADD = -lpthread

# It exports system calls of its own, for the preloaded library to find.
tests_bench_purge_SOURCES = tests/bench/bench.h tests/bench/bench.c tests/bench/purge.c
tests_bench_purge_CPPFLAGS =
tests_bench_purge_CFLAGS = $(bench_cflags)
tests_bench_purge_LDFLAGS = -export-dynamic

# It loads the library that it measures, and has only types and inline functions of mirt.
tests_bench_heaps_SOURCES = tests/bench/bench.h tests/bench/bench.c tests/bench/heaps.c
tests_bench_heaps_CPPFLAGS = $(PUBLIC_CPPFLAGS)
tests_bench_heaps_CFLAGS = $(bench_cflags)
tests_bench_heaps_LDADD = -lpthread -ldl

# These are what a virtual machine would be: programs linked with the library.
tests_bench_objects_SOURCES = tests/bench/bench.h tests/bench/bench.c tests/bench/objects.c
tests_bench_objects_CPPFLAGS = $(PUBLIC_CPPFLAGS)
tests_bench_objects_CFLAGS = $(bench_cflags)
tests_bench_objects_LDADD = libmirt.la -ldl

graph_sources = tests/bench/bench.h tests/bench/bench.c tests/bench/graph.c
tests_bench_graph_refs_SOURCES = $(graph_sources)
tests_bench_graph_refs_CPPFLAGS = $(PUBLIC_CPPFLAGS) -DWITH_REFS
tests_bench_graph_refs_CFLAGS = $(bench_cflags)
tests_bench_graph_refs_LDADD = libmirt.la -ldl

tests_bench_graph_pointers_SOURCES = $(graph_sources)
tests_bench_graph_pointers_CPPFLAGS = $(PUBLIC_CPPFLAGS)
tests_bench_graph_pointers_CFLAGS = $(bench_cflags)
tests_bench_graph_pointers_LDADD = libmirt.la -ldl

tests_bench_graph_bdwgc_SOURCES = $(graph_sources)
tests_bench_graph_bdwgc_CPPFLAGS = -DWITH_BDWGC
tests_bench_graph_bdwgc_CFLAGS = $(bench_cflags) $(BDWGC_CFLAGS)
tests_bench_graph_bdwgc_LDADD = $(BDWGC_LIBS) -ldl

EXTRA_DIST += tests/bench/run.py tests/bench/heaps.py tests/bench/gc.py tests/bench/README.md

bench_python = python3
bench_run = $(bench_python) $(srcdir)/tests/bench/run.py --build $(abs_top_builddir)

.PHONY: bench bench-quick bench-purge bench-heaps bench-gc
if OVERRIDE
bench: tests/bench/patterns$(EXEEXT) libmirt-malloc.la
	$(bench_run) --program tests/bench/patterns$(EXEEXT) $(BENCHFLAGS)

bench-quick: tests/bench/patterns$(EXEEXT) libmirt-malloc.la
	$(bench_run) --program tests/bench/patterns$(EXEEXT) --quick $(BENCHFLAGS)

bench-purge: tests/bench/purge$(EXEEXT) libmirt-malloc.la
	$(bench_run) --program tests/bench/purge$(EXEEXT) --purge $(BENCHFLAGS)
else
bench bench-quick bench-purge:
	@echo 'There is nothing to preload: configured without the override library.' >&2; \
	exit 1
endif

bench-heaps: tests/bench/heaps$(EXEEXT) libmirt.la
	$(bench_python) $(srcdir)/tests/bench/heaps.py --build $(abs_top_builddir) \
	  --program tests/bench/heaps$(EXEEXT) $(BENCHFLAGS)

bench-gc: $(gc_programs)
	$(bench_python) $(srcdir)/tests/bench/gc.py --programs tests/bench $(BENCHFLAGS)
