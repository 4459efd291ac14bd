(define l 1)
(do ((i 0 (+ i 1))) ((= i 100000)) (set! l (list '+ 1 l)))
(eval l)
