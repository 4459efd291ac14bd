# The binding of CPython.
