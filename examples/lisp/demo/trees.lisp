;;; trees.lisp - build and count binary trees: many small ones beside a large one.
;;; Usage: trees.lisp [depth]

(define depth-max
  (if (null? (cdr (command-line))) 16 (string->number (cadr (command-line)))))

(define (make-tree depth)
  (if (= depth 0)
      '()
      (cons (make-tree (- depth 1)) (make-tree (- depth 1)))))

(define (count-nodes tree)
  (if (null? tree)
      0
      (+ 1 (count-nodes (car tree)) (count-nodes (cdr tree)))))

(define (power-of-two n)
  (if (= n 0) 1 (* 2 (power-of-two (- n 1)))))

(define long-lived (make-tree depth-max))

(do ((depth 4 (+ depth 4)))
    ((> depth depth-max))
  (let ((trees (power-of-two (- depth-max depth))))
    (do ((i 0 (+ i 1)) (nodes 0 (+ nodes (count-nodes (make-tree depth)))))
        ((= i trees)
         (print " " trees "trees of depth" depth "have" nodes "nodes")))))

(print "  the large tree of depth" depth-max "has" (count-nodes long-lived) "nodes")
