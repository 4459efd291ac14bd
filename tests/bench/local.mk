# The benchmarks. `make bench` measures mirt beside the allocators that are installed, with
# patterns of allocation and with whole programs, and writes bench/report.md and
# bench/report.svg; `make bench-quick` does so with fewer of them, in bench/quick.
# `make bench-purge` measures how allocators give memory back; `make bench-heaps` measures
# heaps beside those of mimalloc, and `make bench-gc` objects and their collection beside
# mimalloc and bdwgc. BENCHFLAGS are options of run.py, heaps.py or gc.py, for example
# BENCHFLAGS='--only pair --rounds 11'.

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
	tests/bench/threads.h \
	tests/bench/patterns.c \
	tests/bench/single.c \
	tests/bench/runtimes.c \
	tests/bench/algebra.c \
	tests/bench/containers.c \
	tests/bench/space.c \
	tests/bench/threaded.c \
	tests/bench/requests.c \
	tests/bench/sharing.c
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

# These find the functions that they measure by name, in what is preloaded.
limits_programs = tests/bench/instructions tests/bench/latency tests/bench/scaling \
	tests/bench/memory
EXTRA_PROGRAMS += $(limits_programs)
limits_sources = tests/bench/bench.h tests/bench/bench.c tests/bench/limits.h
tests_bench_instructions_SOURCES = $(limits_sources) tests/bench/instructions.c
tests_bench_instructions_CPPFLAGS =
tests_bench_instructions_CFLAGS = $(bench_cflags)
tests_bench_instructions_LDADD = -lpthread -ldl

tests_bench_latency_SOURCES = $(limits_sources) tests/bench/latency.c
tests_bench_latency_CPPFLAGS =
tests_bench_latency_CFLAGS = $(bench_cflags)
tests_bench_latency_LDADD = -ldl

tests_bench_scaling_SOURCES = $(limits_sources) tests/bench/scaling.c
tests_bench_scaling_CPPFLAGS =
tests_bench_scaling_CFLAGS = $(bench_cflags)
tests_bench_scaling_LDADD = -ldl

tests_bench_memory_SOURCES = $(limits_sources) tests/bench/memory.c
tests_bench_memory_CPPFLAGS =
tests_bench_memory_CFLAGS = $(bench_cflags)
tests_bench_memory_LDADD = -ldl

EXTRA_DIST += tests/bench/limits.py
EXTRA_DIST += tests/bench/run.py tests/bench/heaps.py tests/bench/gc.py tests/bench/README.md
EXTRA_DIST += \
	tests/bench/chart.py \
	tests/bench/common.py \
	tests/bench/report.py \
	tests/bench/whole_programs.py \
	tests/bench/programs/bench.lua \
	tests/bench/programs/bench.pl \
	tests/bench/programs/bench.py \
	tests/bench/programs/make_c.py \
	tests/bench/programs/make_sql.py

bench_python = python3
bench_run = CC='$(CC)' $(bench_python) $(srcdir)/tests/bench/run.py \
	--build $(abs_top_builddir)

# What was measured outlives `make clean`.
distclean-local:
	-rm -rf bench

.PHONY: bench bench-quick bench-purge bench-heaps bench-gc
if OVERRIDE
bench: tests/bench/patterns$(EXEEXT) libmirt-malloc.la
	$(bench_run) --program tests/bench/patterns$(EXEEXT) $(BENCHFLAGS)

bench-quick: tests/bench/patterns$(EXEEXT) libmirt-malloc.la
	$(bench_run) --program tests/bench/patterns$(EXEEXT) --quick \
	  --output bench/quick $(BENCHFLAGS)

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

# The programs are preloaded with libmirt-malloc, and with libmirt where the functions
# measured are those of mi_*.
bench_limits = $(bench_python) $(srcdir)/tests/bench/limits.py \
	--build $(abs_top_builddir)

.PHONY: bench-instructions bench-latency bench-scaling bench-memory
if OVERRIDE
bench-instructions: tests/bench/instructions$(EXEEXT) libmirt-malloc.la libmirt.la
	$(bench_limits) instructions $(BENCHFLAGS)

bench-latency: tests/bench/latency$(EXEEXT) libmirt-malloc.la libmirt.la
	$(bench_limits) latency $(BENCHFLAGS)

bench-scaling: tests/bench/scaling$(EXEEXT) libmirt-malloc.la libmirt.la
	$(bench_limits) scaling $(BENCHFLAGS)

bench-memory: tests/bench/memory$(EXEEXT) libmirt-malloc.la libmirt.la
	$(bench_limits) memory $(BENCHFLAGS)
else
bench-instructions bench-latency bench-scaling bench-memory:
	@echo 'There is nothing to preload: configured without the override library.' >&2; \
	exit 1
endif
