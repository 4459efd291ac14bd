# The binding of Koka's runtime.
