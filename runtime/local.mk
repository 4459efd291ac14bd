# The allocator. Sources are listed room by room, each room above the ones that use it.

base_sources = \
	runtime/base/atomic.h \
	runtime/base/bits.h \
	runtime/base/bitmap.h \
	runtime/base/bitmap.c \
	runtime/base/record_stack.h \
	runtime/base/option.h \
	runtime/base/option.c \
	runtime/base/log.h \
	runtime/base/log.c \
	runtime/base/stats.h \
	runtime/base/stats.c

runtime_sources = \
	runtime/os/os.h \
	runtime/os/process.c \
	runtime/arena/slice.h \
	runtime/arena/tag.h \
	runtime/arena/descriptor.h \
	runtime/arena/page_map.h \
	runtime/arena/page_map.c \
	runtime/arena/reader.h \
	runtime/arena/reader.c \
	runtime/arena/zone.h \
	runtime/arena/zone.c \
	runtime/arena/arena.h \
	runtime/arena/arena.c \
	runtime/arena/slices.c \
	runtime/arena/arena_api.c \
	runtime/arena/purge.c \
	runtime/heap/size_class.h \
	runtime/heap/page.h \
	runtime/heap/page.c \
	runtime/heap/cell.h \
	runtime/heap/cell.c \
	runtime/heap/heap.h \
	runtime/heap/heap.c \
	runtime/heap/owner.h \
	runtime/heap/owner.c \
	runtime/heap/alloc.h \
	runtime/heap/alloc.c \
	runtime/heap/large.h \
	runtime/heap/large.c \
	runtime/heap/free.c \
	runtime/heap/collect.h \
	runtime/heap/epoch.h \
	runtime/heap/epoch.c \
	runtime/heap/collect.c \
	runtime/heap/visit.h \
	runtime/heap/visit.c \
	runtime/malloc/malloc.c \
	runtime/malloc/aligned.c \
	runtime/malloc/realloc.c \
	runtime/malloc/posix.c \
	runtime/malloc/string.c \
	runtime/malloc/new.c \
	runtime/malloc/default_heap.c \
	runtime/malloc/checked.h \
	runtime/malloc/heap_api.c \
	runtime/malloc/info.c \
	runtime/vm/arena_destroy.c \
	runtime/vm/arena_map.c \
	runtime/vm/budget.c \
	runtime/vm/cage.c \
	runtime/vm/find.c \
	runtime/vm/gc.h \
	runtime/vm/gc.c \
	runtime/vm/mark.h \
	runtime/vm/mark.c \
	runtime/vm/mutator.c \
	runtime/vm/new.c \
	runtime/vm/runtime.h \
	runtime/vm/runtime.c \
	runtime/vm/safepoint.c \
	runtime/vm/stats.c \
	runtime/vm/tag.c \
	runtime/vm/type.c \
	runtime/vm/visit.c \
	runtime/vm/weak.h \
	runtime/vm/registers.h \
	runtime/vm/weak.c

# Everything but the override is compiled once, into libraries that are not installed; the
# tests link them too, since they show what the shared library hides. The system calls
# have a library of their own: a test puts another in its place, in which they can fail.
noinst_LTLIBRARIES += libmirt-runtime.la libmirt-system.la libmirt-base.la
libmirt_runtime_la_SOURCES = $(runtime_sources)
libmirt_system_la_SOURCES = runtime/os/os.c
libmirt_base_la_SOURCES = $(base_sources)
libmirt_base_la_LIBADD = $(ATOMIC_OPS_LIBS)
core_libraries = libmirt-runtime.la libmirt-system.la libmirt-base.la

lib_LTLIBRARIES += libmirt.la
libmirt_la_SOURCES =
libmirt_la_LIBADD = $(core_libraries)
libmirt_la_LDFLAGS = -version-info 0:0:0 $(NODELETE_LDFLAGS)

# The LD_PRELOAD library: the same allocator under the names malloc, free and so on.
if OVERRIDE
lib_LTLIBRARIES += libmirt-malloc.la
endif
libmirt_malloc_la_SOURCES = runtime/malloc/override.c
libmirt_malloc_la_CPPFLAGS = $(AM_CPPFLAGS) -DMIRT_OVERRIDE=1
libmirt_malloc_la_CFLAGS = $(AM_CFLAGS) $(MIRT_OVERRIDE_CFLAGS)
libmirt_malloc_la_LIBADD = $(core_libraries)
libmirt_malloc_la_LDFLAGS = -module -shared -avoid-version $(NODELETE_LDFLAGS)

# A static library hides nothing: a program with a function or variable named like one of ours
# would not link. So the installed one has a single object, whose hidden names are local.
install-exec-hook:
	archive='$(DESTDIR)$(libdir)/libmirt.a'; \
	if test -n '$(OBJCOPY)' && test -f "$$archive"; then \
	  $(CC) -nostdlib -r -o libmirt-hidden.o -Wl,--whole-archive "$$archive" \
	    -Wl,--no-whole-archive && \
	  $(OBJCOPY) --localize-hidden libmirt-hidden.o && \
	  rm -f "$$archive" && $(AR) cr "$$archive" libmirt-hidden.o && \
	  $(RANLIB) "$$archive"; \
	  code=$$?; rm -f libmirt-hidden.o; exit $$code; \
	fi
