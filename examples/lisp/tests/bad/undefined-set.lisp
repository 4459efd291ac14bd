
(set! nowhere 1)
