# The benchmarks. `make bench` measures mirt beside the allocators that are installed,
# `make bench-quick` does so with fewer patterns. BENCHFLAGS are options of run.py, for
# example BENCHFLAGS='--only pair --rounds 11'.

# The program must not be linked with mirt, nor know its headers, and the compiler must
# not remove an allocation because it can tell that nobody needs it.
EXTRA_PROGRAMS += tests/bench/patterns
CLEANFILES += tests/bench/patterns$(EXEEXT)
tests_bench_patterns_SOURCES = \
	tests/bench/bench.h \
	tests/bench/patterns.c \
	tests/bench/single.c \
	tests/bench/threaded.c
tests_bench_patterns_CPPFLAGS =
tests_bench_patterns_CFLAGS = $(AM_CFLAGS) -O2 -fno-builtin-malloc -fno-builtin-calloc \
	-fno-builtin-realloc -fno-builtin-free
tests_bench_patterns_LDADD = -lpthread

EXTRA_DIST += tests/bench/run.py tests/bench/README.md

bench_python = python3
bench_run = $(bench_python) $(srcdir)/tests/bench/run.py --build $(abs_top_builddir) \
	--program tests/bench/patterns$(EXEEXT)

.PHONY: bench bench-quick
if OVERRIDE
bench: tests/bench/patterns$(EXEEXT) libmirt-malloc.la
	$(bench_run) $(BENCHFLAGS)

bench-quick: tests/bench/patterns$(EXEEXT) libmirt-malloc.la
	$(bench_run) --quick $(BENCHFLAGS)
else
bench bench-quick:
	@echo 'There is nothing to preload: configured without the override library.' >&2; \
	exit 1
endif
