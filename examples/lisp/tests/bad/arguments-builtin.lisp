(vector-ref (vector 1))
