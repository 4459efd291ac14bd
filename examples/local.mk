# A small Lisp, built twice from the same sources: its values are 32-bit refs into a cage,
# or plain pointers.

lisp_sources = \
	examples/lisp/value.h \
	examples/lisp/object.h \
	examples/lisp/object.c \
	examples/lisp/memory.h \
	examples/lisp/memory.c \
	examples/lisp/collector.h \
	examples/lisp/collector.c \
	examples/lisp/lisp.h \
	examples/lisp/lisp.c \
	examples/lisp/symbol.c \
	examples/lisp/table.h \
	examples/lisp/table.c \
	examples/lisp/reader.h \
	examples/lisp/reader.c \
	examples/lisp/printer.h \
	examples/lisp/printer.c \
	examples/lisp/code.h \
	examples/lisp/compile.h \
	examples/lisp/compile.c \
	examples/lisp/scope.c \
	examples/lisp/syntax.c \
	examples/lisp/quasiquote.c \
	examples/lisp/run.c \
	examples/lisp/builtin.h \
	examples/lisp/builtin.c \
	examples/lisp/builtin_numbers.c \
	examples/lisp/builtin_lists.c \
	examples/lisp/builtin_strings.c \
	examples/lisp/builtin_tables.c \
	examples/lisp/builtin_system.c \
	examples/lisp/prelude.c \
	examples/lisp/report.h \
	examples/lisp/report.c \
	examples/lisp/main.c

lisp_cppflags = $(PUBLIC_CPPFLAGS) -DLISP_VERSION='"$(VERSION)"'

noinst_PROGRAMS += examples/lisp/lisp32 examples/lisp/lisp64

examples_lisp_lisp32_SOURCES = $(lisp_sources)
examples_lisp_lisp32_CPPFLAGS = $(lisp_cppflags) -DLISP_REFS=1
examples_lisp_lisp32_LDADD = libmirt.la
examples_lisp_lisp32_LDFLAGS = -no-install

examples_lisp_lisp64_SOURCES = $(lisp_sources)
examples_lisp_lisp64_CPPFLAGS = $(lisp_cppflags) -DLISP_REFS=0
examples_lisp_lisp64_LDADD = libmirt.la
examples_lisp_lisp64_LDFLAGS = -no-install

# tests/ goes in whole: scripts, and beside each one what it prints. demo/ cannot, since
# make has a rule of its own that makes a file "demo" from "demo.sh".
EXTRA_DIST += \
	examples/lisp/README \
	examples/lisp/demo.sh \
	examples/lisp/demo/wordcount.lisp \
	examples/lisp/demo/queens.lisp \
	examples/lisp/demo/deriv.lisp \
	examples/lisp/demo/trees.lisp \
	examples/lisp/tests

.PHONY: demo
demo: examples/lisp/lisp32$(EXEEXT) examples/lisp/lisp64$(EXEEXT)
	$(AM_V_at)LISP32='$(abs_top_builddir)/examples/lisp/lisp32$(EXEEXT)' \
	LISP64='$(abs_top_builddir)/examples/lisp/lisp64$(EXEEXT)' \
	srcdir='$(abs_srcdir)' $(TEST_SHELL) '$(srcdir)/examples/lisp/demo.sh'

# Several isolates in arenas of their own, and the program that draws a map of arenas.

noinst_PROGRAMS += examples/arena-map/isolates

examples_arena_map_isolates_SOURCES = examples/arena-map/isolates.c
examples_arena_map_isolates_CPPFLAGS = $(PUBLIC_CPPFLAGS)
examples_arena_map_isolates_LDADD = libmirt.la
examples_arena_map_isolates_LDFLAGS = -no-install

dist_bin_SCRIPTS = examples/arena-map/mirt-arena-map
dist_man_MANS += examples/arena-map/mirt-arena-map.1
EXTRA_DIST += examples/arena-map/README
