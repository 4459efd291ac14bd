(print
  (map car 5))
