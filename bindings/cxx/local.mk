# The binding of C++.
