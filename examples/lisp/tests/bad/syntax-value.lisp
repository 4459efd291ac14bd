(print if)
