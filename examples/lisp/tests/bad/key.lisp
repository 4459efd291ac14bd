(hash-ref (make-hash) "no such")
