EXTRA_DIST += bindings/README.md
