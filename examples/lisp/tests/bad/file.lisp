(read-file "no-such-file")
