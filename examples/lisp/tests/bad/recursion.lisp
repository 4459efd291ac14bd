(define (f n)
  (+ 1 (f (+ n 1))))
(print (f 0))
