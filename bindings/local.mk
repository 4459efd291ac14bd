# Where a language meets the kit: one folder each. What needs an interpreter is built where
# configure found it.

include bindings/cxx/local.mk
include bindings/koka/local.mk
include bindings/lua/local.mk
include bindings/python/local.mk

EXTRA_DIST += bindings/README.md
