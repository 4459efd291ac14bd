;;; deriv.lisp - derivatives of formulas, simplified.
;;; Usage: deriv.lisp [n], for the n-th derivative of a larger formula

(define order
  (if (null? (cdr (command-line))) 6 (string->number (cadr (command-line)))))

(define (make-sum a b)
  (cond ((and (number? a) (number? b)) (+ a b))
        ((equal? a 0) b)
        ((equal? b 0) a)
        ((equal? a b) (make-product 2 a))
        (else (list '+ a b))))

(define (make-product a b)
  (cond ((and (number? a) (number? b)) (* a b))
        ((or (equal? a 0) (equal? b 0)) 0)
        ((equal? a 1) b)
        ((equal? b 1) a)
        ((number? b) (make-product b a))
        ((and (number? a) (pair? b) (eq? (car b) '*) (number? (cadr b)))
         (make-product (* a (cadr b)) (caddr b)))
        (else (list '* a b))))

(define (make-power base exponent)
  (cond ((= exponent 0) 1)
        ((= exponent 1) base)
        (else (list '^ base exponent))))

(define (derivative formula variable)
  (cond ((number? formula) 0)
        ((symbol? formula) (if (eq? formula variable) 1 0))
        (else
         (let ((a (cadr formula)) (b (caddr formula)))
           (case (car formula)
             ((+) (make-sum (derivative a variable) (derivative b variable)))
             ((*) (make-sum (make-product a (derivative b variable))
                            (make-product (derivative a variable) b)))
             ((^) (make-product (make-product b (make-power a (- b 1)))
                                (derivative a variable)))
             (else (error "unknown operation:" (car formula))))))))

(define (nth-derivative formula variable n)
  (do ((formula formula (derivative formula variable))
       (n n (- n 1)))
      ((= n 0) formula)))

(define (size formula)
  (if (pair? formula)
      (let loop ((rest (cdr formula)) (sum 1))
        (if (null? rest) sum (loop (cdr rest) (+ sum (size (car rest))))))
      1))

(define (show formula)
  (display " d/dx ") (write formula)
  (display "  =  ") (write (derivative formula 'x))
  (newline))

(show '(^ x 3))
(show '(+ (* 3 (^ x 2)) (* 5 x)))
(show '(* (+ x 1) (+ x -1)))
(let ((formula '(* (^ (+ (^ x 2) 1) 9) (* (+ x y) (^ (+ x 3) 7)))))
  (do ((n 1 (+ n 1)))
      ((> n order))
    (print " derivative" n "of the large formula has"
           (size (nth-derivative formula 'x n)) "parts")))
