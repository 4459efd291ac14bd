# The binding of C++17: a header.

mirtinclude_HEADERS += bindings/cxx/mirt.hpp

if HAVE_CXX
noinst_PROGRAMS += bindings/cxx/example
if TESTS_ENABLED
check_PROGRAMS += tests/test_cxx_binding
TESTS += tests/test_cxx_example.sh
endif
endif

cxx_cppflags = $(PUBLIC_CPPFLAGS) -I$(top_srcdir)/bindings/cxx
cxx_cxxflags = $(AM_CXXFLAGS) -std=gnu++17 -Wshadow

bindings_cxx_example_SOURCES = bindings/cxx/example.cpp
bindings_cxx_example_CPPFLAGS = $(cxx_cppflags)
bindings_cxx_example_CXXFLAGS = $(cxx_cxxflags)
bindings_cxx_example_LDADD = libmirt.la
bindings_cxx_example_LDFLAGS = -no-install

tests_test_cxx_binding_SOURCES = tests/test_cxx_binding.cpp
tests_test_cxx_binding_CPPFLAGS = $(cxx_cppflags)
tests_test_cxx_binding_CXXFLAGS = $(cxx_cxxflags)
tests_test_cxx_binding_LDADD = libmirt.la -lpthread
tests_test_cxx_binding_LDFLAGS = -no-install

# Containers with references need a standard library that lets them: clang++ with libc++.
.PHONY: bench-cxx
bench-cxx: libmirt.la
	$(bench_python) $(srcdir)/bindings/cxx/bench/run.py --build $(abs_top_builddir) $(BENCHFLAGS)

EXTRA_DIST += bindings/cxx/README.md bindings/cxx/bench/run.py bindings/cxx/bench/containers.cpp \
	tests/test_cxx_example.sh
