(define form
  '(list 1
         (undefined-in-form)))
(print (eval form))
