(load "open-list.lisp")
