(define (f x)
  (list x
        (y x)))
(print "before")
(f 1)
