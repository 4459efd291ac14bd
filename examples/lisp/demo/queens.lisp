;;; queens.lisp - how many ways are there to put n queens on a board of n by n?
;;; Usage: queens.lisp [n]

(define size
  (if (null? (cdr (command-line))) 9 (string->number (cadr (command-line)))))

;; Is a queen in this column safe from the ones in the rows above, the nearest first?
(define (safe? column placed)
  (let loop ((placed placed) (distance 1))
    (or (null? placed)
        (and (not (= (car placed) column))
             (not (= (abs (- (car placed) column)) distance))
             (loop (cdr placed) (+ distance 1))))))

(define solutions 0)
(define first-solution #f)

(define (place row placed)
  (if (= row size)
      (begin
        (unless first-solution (set! first-solution placed))
        (set! solutions (+ solutions 1)))
      (do ((column 0 (+ column 1)))
          ((= column size))
        (when (safe? column placed)
          (place (+ row 1) (cons column placed))))))

(define (draw placed)
  (for-each (lambda (queen)
              (do ((column 0 (+ column 1)))
                  ((= column size) (newline))
                (display (if (= column queen) " Q" " ."))))
            (reverse placed)))

(place 0 '())
(print solutions "solutions for" size "queens; the first one:")
(when first-solution (draw first-solution))
