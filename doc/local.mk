# Every page of the documentation is distributed; the manual page is installed.
EXTRA_DIST += $(srcdir)/doc/*.md
dist_man_MANS += doc/mirt.3
