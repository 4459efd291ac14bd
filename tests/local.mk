# The tests: one Check program per room, a C++ program, and scripts for what can only be
# seen from outside. `make check` runs them in parallel.

# Under a sanitizer a fork per test costs minutes, so there all tests run in one process.
AM_TESTS_ENVIRONMENT = \
	top_srcdir='$(abs_top_srcdir)'; export top_srcdir; \
	top_builddir='$(abs_top_builddir)'; export top_builddir; \
	CC='$(CC)'; export CC; CXX='$(CXX)'; export CXX; \
	SANITIZER='$(enable_sanitizer)'; export SANITIZER; \
	if test '$(enable_sanitizer)' != no; then CK_FORK=no; export CK_FORK; fi; \
	LISP32='$(abs_top_builddir)/examples/lisp/lisp32$(EXEEXT)'; export LISP32; \
	LISP64='$(abs_top_builddir)/examples/lisp/lisp64$(EXEEXT)'; export LISP64; \
	LIBMIRT_MALLOC='$(abs_top_builddir)/.libs/libmirt-malloc.so'; export LIBMIRT_MALLOC;

TEST_EXTENSIONS = .sh
SH_LOG_COMPILER = $(TEST_SHELL)

# Programs that look inside the library: one file each, over tests/test.h.
check_programs = \
	tests/test_base \
	tests/test_arena \
	tests/test_managed \
	tests/test_many_arenas \
	tests/test_faults \
	tests/test_heap \
	tests/test_cage \
	tests/test_model \
	tests/test_mutator \
	tests/test_runtime \
	tests/test_gc \
	tests/test_safepoint \
	tests/test_jit \
	tests/test_tags \
	tests/test_epoch \
	tests/test_visit \
	tests/test_process

# Those and scripts with one thread: ThreadSanitizer has nothing to find there, in ten times
# the time.
one_thread_programs = \
	tests/test_os \
	tests/test_huge_pages \
	tests/test_pages \
	tests/test_malloc
one_thread_scripts = tests/test_ref_code.sh tests/test_arena_map.sh tests/test_doc.sh

tests_test_base_SOURCES = tests/test_base.c tests/test.h
tests_test_os_SOURCES = tests/test_os.c tests/test.h
tests_test_arena_SOURCES = tests/test_arena.c tests/test.h
tests_test_managed_SOURCES = tests/test_managed.c tests/test.h
tests_test_many_arenas_SOURCES = tests/test_many_arenas.c tests/test.h
tests_test_huge_pages_SOURCES = tests/test_huge_pages.c tests/test.h
tests_test_faults_SOURCES = tests/test_faults.c tests/system.c tests/system.h tests/test.h
tests_test_heap_SOURCES = tests/test_heap.c tests/test.h
tests_test_pages_SOURCES = tests/test_pages.c tests/test.h
tests_test_malloc_SOURCES = tests/test_malloc.c tests/test.h
tests_test_cage_SOURCES = tests/test_cage.c tests/test.h
tests_test_model_SOURCES = tests/test_model.c tests/test.h
tests_test_mutator_SOURCES = tests/test_mutator.c tests/test.h
tests_test_runtime_SOURCES = tests/test_runtime.c tests/test.h
tests_test_gc_SOURCES = tests/test_gc.c tests/system.c tests/system.h tests/test.h
tests_test_safepoint_SOURCES = tests/test_safepoint.c tests/test.h
tests_test_jit_SOURCES = tests/test_jit.c tests/test.h
tests_test_tags_SOURCES = tests/test_tags.c tests/test.h
tests_test_epoch_SOURCES = tests/test_epoch.c tests/test.h
tests_test_visit_SOURCES = tests/test_visit.c tests/test.h
tests_test_process_SOURCES = tests/test_process.c tests/test.h

tests_cppflags = $(AM_CPPFLAGS) -I$(top_srcdir)/tests $(CHECK_CFLAGS)
tests_ldadd = $(core_libraries) $(CHECK_LIBS)

tests_test_base_CPPFLAGS = $(tests_cppflags)
tests_test_os_CPPFLAGS = $(tests_cppflags)
tests_test_arena_CPPFLAGS = $(tests_cppflags)
tests_test_managed_CPPFLAGS = $(tests_cppflags)
tests_test_many_arenas_CPPFLAGS = $(tests_cppflags)
tests_test_huge_pages_CPPFLAGS = $(tests_cppflags)
tests_test_faults_CPPFLAGS = $(tests_cppflags)
tests_test_heap_CPPFLAGS = $(tests_cppflags)
tests_test_pages_CPPFLAGS = $(tests_cppflags)
tests_test_malloc_CPPFLAGS = $(tests_cppflags)
tests_test_cage_CPPFLAGS = $(tests_cppflags)
tests_test_model_CPPFLAGS = $(tests_cppflags)
tests_test_mutator_CPPFLAGS = $(tests_cppflags)
tests_test_runtime_CPPFLAGS = $(tests_cppflags)
tests_test_gc_CPPFLAGS = $(tests_cppflags)
tests_test_safepoint_CPPFLAGS = $(tests_cppflags)
tests_test_jit_CPPFLAGS = $(tests_cppflags)
tests_test_tags_CPPFLAGS = $(tests_cppflags)
tests_test_epoch_CPPFLAGS = $(tests_cppflags)
tests_test_visit_CPPFLAGS = $(tests_cppflags)
tests_test_process_CPPFLAGS = $(tests_cppflags)

tests_test_base_LDADD = $(tests_ldadd)
tests_test_os_LDADD = $(tests_ldadd)
tests_test_arena_LDADD = $(tests_ldadd)
tests_test_managed_LDADD = $(tests_ldadd)
tests_test_many_arenas_LDADD = $(tests_ldadd)
tests_test_huge_pages_LDADD = $(tests_ldadd)
tests_test_faults_LDADD = libmirt-runtime.la libmirt-system-test.la libmirt-base.la \
	$(CHECK_LIBS)
tests_test_heap_LDADD = $(tests_ldadd)
tests_test_pages_LDADD = $(tests_ldadd)
tests_test_malloc_LDADD = $(tests_ldadd)
tests_test_cage_LDADD = $(tests_ldadd)
tests_test_model_LDADD = $(tests_ldadd)
tests_test_mutator_LDADD = $(tests_ldadd)
tests_test_runtime_LDADD = $(tests_ldadd)
tests_test_gc_LDADD = libmirt-runtime.la libmirt-system-test.la libmirt-base.la \
	$(CHECK_LIBS)
tests_test_safepoint_LDADD = $(tests_ldadd)
tests_test_jit_LDADD = $(tests_ldadd)
tests_test_tags_LDADD = $(tests_ldadd)
tests_test_epoch_LDADD = $(tests_ldadd)
tests_test_visit_LDADD = $(tests_ldadd)
tests_test_process_LDADD = $(tests_ldadd)

# The system calls as tests/system.h lets them fail.
check_LTLIBRARIES = libmirt-system-test.la
libmirt_system_test_la_SOURCES = runtime/os/os.c
libmirt_system_test_la_CPPFLAGS = $(tests_cppflags) -DMIRT_TEST_SYSTEM='"system.h"'

# The C++ side of the installed headers, against the library as a program would use it.
tests_test_cxx_SOURCES = tests/test_cxx.cpp
tests_test_cxx_CPPFLAGS = $(PUBLIC_CPPFLAGS)
tests_test_cxx_CXXFLAGS = $(AM_CXXFLAGS) -std=gnu++17
tests_test_cxx_LDADD = libmirt.la
tests_test_cxx_LDFLAGS = -no-install
# A thousand instances of templates, each run once: optimising them takes longer than the tests.
tests/test_cxx-test_cxx.$(OBJEXT): CXXFLAGS += -O0 -g1

# The protocols between threads, all at once: for some seconds in `make check`, for minutes
# and with more threads in `make stress`, whose numbers STRESSFLAGS changes.
tests_stress_SOURCES = tests/stress.c
tests_stress_CPPFLAGS = $(AM_CPPFLAGS)
tests_stress_LDADD = libmirt.la
tests_stress_LDFLAGS = -no-install

STRESSFLAGS = 180 64
.PHONY: stress
stress: tests/stress$(EXEEXT)
	tests/stress$(EXEEXT) $(STRESSFLAGS)

test_scripts = tests/test_override.sh tests/test_lisp.sh $(one_thread_scripts) \
	tests/test_green_threads.sh tests/test_threads.sh \
	tests/test_fast_path.sh \
	tests/test_install.sh \
	tests/test_bench.sh
EXTRA_DIST += $(test_scripts) \
	tests/override/database.sql \
	tests/override/plugin.c \
	tests/override/processes.c \
	tests/override/program.lua \
	tests/override/program.pl \
	tests/override/program.py \
	tests/override/program.rb \
	tests/override/program.sh \
	tests/override/thread_local.cpp \
	tests/valgrind.supp

if TESTS_ENABLED
# What takes longest to compile comes first.
if HAVE_CXX
check_PROGRAMS += tests/test_cxx
endif
check_PROGRAMS += $(check_programs) tests/stress
if !THREAD_SANITIZER
check_PROGRAMS += $(one_thread_programs)
TESTS += tests/test_lisp.sh $(one_thread_scripts)
endif
TESTS += $(check_PROGRAMS) tests/test_green_threads.sh tests/test_threads.sh \
	tests/test_fast_path.sh
# What is installed is the same under a sanitizer, whose own libraries programs would need then.
if !SANITIZER
TESTS += tests/test_install.sh
endif
# A sanitizer's own malloc must come first, so what is preloaded cannot be tested beside it.
if OVERRIDE
if !SANITIZER
TESTS += tests/test_override.sh tests/test_bench.sh
endif
endif
endif

# Models of the protocols between threads, for spin: `make check-model` takes minutes.
.PHONY: check-model
check-model:
	$(TEST_SHELL) $(srcdir)/tests/model/check.sh

EXTRA_DIST += tests/model/README tests/model/check.sh tests/model/arena.pml \
	tests/model/page.pml tests/model/purge.pml
