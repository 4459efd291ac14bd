(define l (list 1 2 3))
(set-cdr! (cddr l) l)
(display l)
