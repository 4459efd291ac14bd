# The binding of Lua: libmirt-lua, its header <mirt/lua.h>, and the program mirt-lua.

lua_public_cppflags = -I$(top_srcdir)/bindings/lua $(PUBLIC_CPPFLAGS) $(LUA_CFLAGS)

if LUA
lib_LTLIBRARIES += libmirt-lua.la
mirtlayer_HEADERS += bindings/lua/mirt/lua.h
pkgconfig_DATA += mirt-lua.pc
bin_PROGRAMS += bindings/lua/mirt-lua
dist_man_MANS += bindings/lua/mirt-lua.1
endif

# It leaves open which Lua it is linked with, as modules of Lua do.
libmirt_lua_la_SOURCES = bindings/lua/mirt/lua.h bindings/lua/mirt_lua.c
libmirt_lua_la_CPPFLAGS = $(lua_public_cppflags)
libmirt_lua_la_LIBADD = libmirt.la
libmirt_lua_la_LDFLAGS = -version-info 0:0:0 $(NODELETE_LDFLAGS)

# The program has the interpreter inside where there is a static library of it, as the
# system's own program does, and all of it, for modules; else it takes the shared one. ("call"
# since automake wants to look into what it can expand.)
lua_static = $(shell $(CC) -print-file-name=$(patsubst -l%,lib%.a,$(filter -llua%,$(LUA_LIBS))))
lua_whole = -Wl,--whole-archive,$(lua_static),--no-whole-archive -lm -ldl
lua_inside = $(if $(wildcard $(lua_static)),$(lua_whole),$(LUA_LIBS))

# Modules that the program loads find the functions of Lua in it, and only those: its mirt is
# not theirs.
bindings_lua_mirt_lua_SOURCES = \
	bindings/lua/mirt/lua.h \
	bindings/lua/mirt_lua.c \
	bindings/lua/options.h \
	bindings/lua/options.c \
	bindings/lua/console.h \
	bindings/lua/console.c \
	bindings/lua/report.h \
	bindings/lua/report.c \
	bindings/lua/main.c \
	bindings/lua/place.c
bindings_lua_mirt_lua_CPPFLAGS = $(lua_public_cppflags) -DMIRT_VERSION='"$(VERSION)"'
bindings_lua_mirt_lua_LDADD = $(call lua_inside) $(core_libraries)
bindings_lua_mirt_lua_DEPENDENCIES = $(core_libraries) $(srcdir)/bindings/lua/export.list
bindings_lua_mirt_lua_LDFLAGS = -Wl,--dynamic-list=$(srcdir)/bindings/lua/export.list

EXTRA_DIST += bindings/lua/README.md bindings/lua/export.list bindings/lua/mirt-lua.pc.in

# ---- tests ----

tests_test_lua_SOURCES = tests/test_lua.c tests/test.h bindings/lua/mirt_lua.c
tests_test_lua_CPPFLAGS = $(tests_cppflags) -I$(top_srcdir)/bindings/lua $(LUA_CFLAGS)
tests_test_lua_LDADD = $(tests_ldadd) $(LUA_LIBS)

if TESTS_ENABLED
if LUA
check_PROGRAMS += tests/test_lua
TESTS += tests/test_lua_program.sh
endif
endif
EXTRA_DIST += tests/test_lua_program.sh bindings/lua/tests

# ---- benchmarks: BENCHFLAGS are options of bench.py, for example --quick ----

if LUA
EXTRA_PROGRAMS += bindings/lua/bench/drop
CLEANFILES += bindings/lua/bench/drop$(EXEEXT)
endif
bindings_lua_bench_drop_SOURCES = bindings/lua/bench/drop.c bindings/lua/mirt/lua.h \
	bindings/lua/mirt_lua.c
bindings_lua_bench_drop_CPPFLAGS = $(lua_public_cppflags)
bindings_lua_bench_drop_LDADD = $(call lua_inside) $(core_libraries)
bindings_lua_bench_drop_DEPENDENCIES = $(core_libraries)

.PHONY: bench-lua
if LUA
bench-lua: bindings/lua/mirt-lua$(EXEEXT) bindings/lua/bench/drop$(EXEEXT)
	$(bench_python) $(srcdir)/bindings/lua/bench/bench.py \
	  --program bindings/lua/mirt-lua$(EXEEXT) \
	  --drop bindings/lua/bench/drop$(EXEEXT) $(BENCHFLAGS)
else
bench-lua:
	@echo 'There is nothing to measure: configured without Lua.' >&2; exit 1
endif

EXTRA_DIST += \
	bindings/lua/bench/bench.py \
	bindings/lua/bench/measure.lua \
	bindings/lua/bench/trees.lua \
	bindings/lua/bench/strings.lua \
	bindings/lua/bench/tables.lua \
	bindings/lua/bench/closures.lua \
	bindings/lua/bench/nbody.lua
