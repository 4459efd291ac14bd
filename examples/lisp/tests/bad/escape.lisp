"a\q"
