(define (second list)
  (car (cdr list)))
(print (second '(1)))
