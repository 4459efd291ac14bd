(define (f a . b) a)
(f)
