;; system.lisp loads this file.
(define loaded-offset 2)
(define (loaded-function n)
  (+ n loaded-offset))
