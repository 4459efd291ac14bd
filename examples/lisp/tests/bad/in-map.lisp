(define (f x) (+ x 1))

(print (map f '(1 b)))
