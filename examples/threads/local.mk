# Threads that share a heap, and stop for its collections.

noinst_PROGRAMS += examples/threads/threads

examples_threads_threads_SOURCES = \
	examples/threads/object.h \
	examples/threads/object.c \
	examples/threads/world.h \
	examples/threads/world.c \
	examples/threads/main.c
examples_threads_threads_CPPFLAGS = $(PUBLIC_CPPFLAGS)
examples_threads_threads_LDADD = libmirt.la
examples_threads_threads_LDFLAGS = -no-install

EXTRA_DIST += examples/threads/README.md
