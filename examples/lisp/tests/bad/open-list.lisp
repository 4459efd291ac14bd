(print 1)
(define (f x)
  (print x)
