(define (f x) (map f (list x)))
(f 1)
