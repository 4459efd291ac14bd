(define l '())
(do ((i 0 (+ i 1))) ((= i 100000)) (set! l (list l)))
(write l)
