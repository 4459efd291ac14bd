(define (f)
  (if #t
      (define x 1))
  x)
