(print 'ending)
(exit #f)
