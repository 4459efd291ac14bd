# Green threads over threads of the system, each with its mutator.

noinst_PROGRAMS += examples/green-threads/green-threads

examples_green_threads_green_threads_SOURCES = \
	examples/green-threads/context.h \
	examples/green-threads/green.h \
	examples/green-threads/green.c \
	examples/green-threads/sieve.c
examples_green_threads_green_threads_CPPFLAGS = $(PUBLIC_CPPFLAGS)
examples_green_threads_green_threads_LDADD = libmirt.la
examples_green_threads_green_threads_LDFLAGS = -no-install

EXTRA_DIST += examples/green-threads/README.md
