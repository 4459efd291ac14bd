# Every page of the documentation is distributed.
EXTRA_DIST += $(srcdir)/doc/*.md
