(print "abc
