(define (nest n) (do ((i 0 (+ i 1)) (l '() (list l))) ((= i n) l)))
(equal? (nest 100000) (nest 100000))
