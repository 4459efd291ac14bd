(define (square x) (* x x))
(print (square 1000))
(print
  (square 40000))
