;;; wordcount.lisp - the ten most frequent words of a text file.
;;; Usage: wordcount.lisp file

(define separators " \t\r\n.,;:!?\"'`()[]{}<>/\\|*-_=+&%$#@~^0123456789")

(define (words-of text)
  (string-split (string-downcase text) separators))

(define (count-words words)
  (let ((counts (make-hash)))
    (for-each (lambda (word)
                (hash-set! counts word (+ 1 (hash-ref counts word 0))))
              words)
    counts))

;; Frequent words first, those equally frequent in the order of the alphabet.
(define (before? a b)
  (if (= (cdr a) (cdr b))
      (string<? (car a) (car b))
      (> (cdr a) (cdr b))))

(define (first-items list count)
  (if (or (= count 0) (null? list))
      '()
      (cons (car list) (first-items (cdr list) (- count 1)))))

(when (null? (cdr (command-line)))
  (error "usage: wordcount.lisp file"))

(let* ((words (words-of (read-file (cadr (command-line)))))
       (counts (count-words words)))
  (print (length words) "words," (hash-count counts) "different ones")
  (for-each (lambda (entry) (print " " (car entry) (cdr entry)))
            (first-items (sort (hash->list counts) before?) 10)))
