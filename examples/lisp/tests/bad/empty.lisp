(print ())
