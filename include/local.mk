# The installed headers, in a folder of their own so that they never meet another
# mimalloc.h; mirt.pc names it.

mirtincludedir = $(includedir)/mirt
mirtinclude_HEADERS = \
	include/mimalloc.h \
	include/mimalloc-new-delete.h \
	include/mimalloc-override.h \
	include/mirt.h

mirtlayerdir = $(mirtincludedir)/mirt
mirtlayer_HEADERS = \
	include/mirt/arena.h \
	include/mirt/cage.h \
	include/mirt/epoch.h \
	include/mirt/foreign.h \
	include/mirt/gc.h \
	include/mirt/mutator.h \
	include/mirt/new.h \
	include/mirt/pmr.hpp \
	include/mirt/ref.h \
	include/mirt/runtime.h \
	include/mirt/safepoint.h \
	include/mirt/stats.h \
	include/mirt/tag.h \
	include/mirt/type.h \
	include/mirt/visit.h
