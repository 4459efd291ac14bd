(print . 5)
