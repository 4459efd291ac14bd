/* The pattern `algebra`: a computer algebra system. Expressions are differentiated and
   simplified, and polynomials are multiplied; all nodes have reference counts, are
   shared, never change, and are freed when their count reaches 0, mostly soon.

   Arithmetic is modulo a prime. An expression's node holds its value at a fixed point,
   by which simplification tells equal expressions, as such systems do with a hash. What
   nodes hold is summed up when they are made and again when they are freed.

   Functions take over the references that they are given, unless they say "of". */

#include "bench.h"

#include <stdio.h>

enum kind { NUMBER, SYMBOL, SUM, PRODUCT, POWER, TERM, POLYNOMIAL };

static const uint64_t modulus = (UINT64_C(1) << 31) - 1;

struct node {
  uint32_t references;
  uint32_t kind;
  uint64_t value;
};

/* 24 bytes. */
struct number {
  struct node node;
  uint64_t which; /* of a symbol */
};

/* 32 bytes: a sum's two sides, or a power's base and exponent. */
struct pair {
  struct node node;
  struct node *left;
  union {
    struct node *right;
    uint64_t exponent;
  };
};

/* 40 bytes. */
struct product {
  struct node node;
  struct node *left, *right;
  uint64_t size; /* nodes in it, for a printer to decide where to break a line */
};

/* 48 bytes. Terms are a list, in falling order of their monomials; ends can be shared. A
   monomial has 16 bits for the exponent of each of four variables. */
struct term {
  struct node node; /* its value is the coefficient */
  struct term *next;
  uint64_t monomial;
  uint64_t degree;
  uint64_t reserved; /* for a second word of a large coefficient */
};

/* 64 bytes. */
struct polynomial {
  struct node node; /* its value is the sum of the coefficients */
  struct term *first;
  uint64_t length, degree;
  uint64_t modulus, variables, name;
};

static struct tally tally;

static void *node_new(size_t size, enum kind kind, uint64_t value) {
  struct node *node = malloc(size);
  if (node == NULL) bench_fail("malloc: out of memory");
  *node = (struct node){1, kind, value};
  tally.serial++;
  tally.written += value << 3 | kind;
  return node;
}

static void node_free(struct node *node) {
  tally.found += node->value << 3 | node->kind;
  free(node);
}

static void *node_share(void *shared) {
  ((struct node *)shared)->references++;
  return shared;
}

/* Expressions */

static void drop(struct node *node) {
  if (--node->references != 0) return;
  switch (node->kind) {
    case SUM:
      drop(((struct pair *)node)->left);
      drop(((struct pair *)node)->right);
      break;
    case PRODUCT:
      drop(((struct product *)node)->left);
      drop(((struct product *)node)->right);
      break;
    case POWER: drop(((struct pair *)node)->left); break;
    default: break;
  }
  node_free(node);
}

static struct node *number(uint64_t value) {
  struct number *number = node_new(sizeof *number, NUMBER, value % modulus);
  number->which = 0;
  return &number->node;
}

static struct node *symbol(uint64_t which, uint64_t value) {
  struct number *symbol = node_new(sizeof *symbol, SYMBOL, value % modulus);
  symbol->which = which;
  return &symbol->node;
}

static bool is_number(const struct node *node, uint64_t value) {
  return node->kind == NUMBER && node->value == value;
}

static struct node *first_of(struct node *result, struct node *dropped) {
  drop(dropped);
  return result;
}

static struct node *product(struct node *left, struct node *right) {
  if (is_number(left, 0) || is_number(right, 1)) return first_of(left, right);
  if (is_number(right, 0) || is_number(left, 1)) return first_of(right, left);
  uint64_t value = left->value * right->value % modulus;
  if (left->kind == NUMBER && right->kind == NUMBER)
    return first_of(first_of(number(value), left), right);
  struct product *product = node_new(sizeof *product, PRODUCT, value);
  product->left = left;
  product->right = right;
  product->size = 1;
  if (left->kind == PRODUCT) product->size += ((struct product *)left)->size;
  return &product->node;
}

static struct node *sum(struct node *left, struct node *right) {
  if (is_number(left, 0)) return first_of(right, left);
  if (is_number(right, 0)) return first_of(left, right);
  uint64_t value = (left->value + right->value) % modulus;
  if (left->kind == NUMBER && right->kind == NUMBER)
    return first_of(first_of(number(value), left), right);
  if (left->value == right->value) return product(number(2), first_of(left, right));
  struct pair *sum = node_new(sizeof *sum, SUM, value);
  sum->left = left;
  sum->right = right;
  return &sum->node;
}

static struct node *power(struct node *base, uint64_t exponent) {
  if (exponent == 0) return first_of(number(1), base);
  if (exponent == 1) return base;
  uint64_t value = 1;
  for (uint64_t i = 0; i < exponent; i++) value = value * base->value % modulus;
  struct pair *power = node_new(sizeof *power, POWER, value);
  power->left = base;
  power->exponent = exponent;
  return &power->node;
}

static struct node *derivative_of(struct node *node, uint64_t which) {
  struct pair *pair = (struct pair *)node;
  struct product *both = (struct product *)node;
  struct node *factor;
  switch (node->kind) {
    case SYMBOL: return number(((struct number *)node)->which == which);
    case SUM:
      factor = derivative_of(pair->left, which);
      return sum(factor, derivative_of(pair->right, which));
    case PRODUCT:
      factor = product(derivative_of(both->left, which), node_share(both->right));
      return sum(factor,
                 product(node_share(both->left), derivative_of(both->right, which)));
    case POWER:
      factor = power(node_share(pair->left), pair->exponent - 1);
      factor = product(number(pair->exponent), factor);
      return product(factor, derivative_of(pair->left, which));
    default: return number(0);
  }
}

enum { symbol_count = 4, expression_depth = 6, derivations = 3, expressions_kept = 1024 };

static struct node *expression_random(struct random *random, struct node **symbols,
                                      int depth) {
  size_t choice = random_below(random, 8);
  if (depth == 0 || choice == 0) {
    if (choice < 3) return number(random_between(random, 1, 9));
    return node_share(symbols[random_below(random, symbol_count)]);
  }
  struct node *left = expression_random(random, symbols, depth - 1);
  if (choice == 1) return power(left, random_between(random, 2, 5));
  struct node *right = expression_random(random, symbols, depth - 1);
  return choice < 5 ? sum(left, right) : product(left, right);
}

/* An expression and its derivatives, as for a Taylor series; the first is kept. */
static struct node *expression_work(struct random *random, struct node **symbols) {
  struct node *node = expression_random(random, symbols, expression_depth);
  struct node *kept = derivative_of(node, random_below(random, symbol_count));
  drop(node);
  node = node_share(kept);
  for (int i = 1; i < derivations; i++)
    node = first_of(derivative_of(node, random_below(random, symbol_count)), node);
  drop(node);
  return kept;
}

/* Polynomials */

static struct term *term_new(uint64_t coefficient, uint64_t monomial, uint64_t degree) {
  struct term *term = node_new(sizeof *term, TERM, coefficient);
  term->next = NULL;
  term->monomial = monomial;
  term->degree = degree;
  term->reserved = 0;
  return term;
}

static void terms_drop(struct term *term) {
  while (term != NULL && --term->node.references == 0) {
    struct term *next = term->next;
    node_free(&term->node);
    term = next;
  }
}

static struct term *terms_scaled_of(const struct term *terms, const struct term *factor) {
  struct term *first = NULL, **end = &first;
  for (; terms != NULL; terms = terms->next) {
    *end = term_new(terms->node.value * factor->node.value % modulus,
                    terms->monomial + factor->monomial, terms->degree + factor->degree);
    end = &(*end)->next;
  }
  return first;
}

static struct term *terms_sum_of(struct term *left, struct term *right) {
  struct term *first = NULL, **end = &first;
  while (left != NULL && right != NULL) {
    bool take_left = left->monomial >= right->monomial;
    bool take_right = right->monomial >= left->monomial;
    const struct term *term = take_left ? left : right;
    uint64_t coefficient = 0;
    if (take_left) coefficient += left->node.value;
    if (take_right) coefficient += right->node.value;
    if (coefficient % modulus != 0) {
      *end = term_new(coefficient % modulus, term->monomial, term->degree);
      end = &(*end)->next;
    }
    if (take_left) left = left->next;
    if (take_right) right = right->next;
  }
  struct term *rest = left != NULL ? left : right;
  if (rest != NULL) *end = node_share(rest);
  return first;
}

static struct polynomial *polynomial_new(struct term *first) {
  uint64_t value = 0, length = 0, degree = 0;
  for (const struct term *term = first; term != NULL; term = term->next) {
    value += term->node.value;
    length++;
    if (term->degree > degree) degree = term->degree;
  }
  struct polynomial *result = node_new(sizeof *result, POLYNOMIAL, value % modulus);
  result->first = first;
  result->length = length;
  result->degree = degree;
  result->modulus = modulus;
  result->variables = symbol_count;
  result->name = 0;
  return result;
}

static void polynomial_drop(struct polynomial *polynomial) {
  if (--polynomial->node.references != 0) return;
  terms_drop(polynomial->first);
  node_free(&polynomial->node);
}

static struct polynomial *polynomial_product_of(const struct polynomial *left,
                                                const struct polynomial *right) {
  struct term *total = NULL;
  for (const struct term *term = left->first; term != NULL; term = term->next) {
    struct term *part = terms_scaled_of(right->first, term);
    struct term *next = terms_sum_of(total, part);
    terms_drop(part);
    terms_drop(total);
    total = next;
  }
  struct polynomial *result = polynomial_new(total);
  if (result->node.value != left->node.value * right->node.value % modulus)
    bench_fail("a product of polynomials is wrong");
  return result;
}

static struct polynomial *polynomial_linear(struct random *random) {
  struct term *first = NULL, **end = &first;
  for (int i = symbol_count; i >= 0; i--) {
    uint64_t monomial = i == 0 ? 0 : UINT64_C(1) << (16 * (i - 1));
    *end = term_new(random_between(random, 1, 99), monomial, i != 0);
    end = &(*end)->next;
  }
  return polynomial_new(first);
}

enum { power_highest = 7 };

/* The powers of a sum of four variables and a number: the seventh has 330 terms. */
static void polynomial_work(struct random *random) {
  struct polynomial *powers[power_highest];
  powers[0] = polynomial_linear(random);
  for (int i = 1; i < power_highest; i++)
    powers[i] = polynomial_product_of(powers[0], powers[i - 1]);
  for (int i = 0; i < power_highest; i++) polynomial_drop(powers[i]);
}

/* As much of the one as of the other, and a thousand results that stay for a while. */
void pattern_algebra(struct run *run) {
  enum { rounds = 2000, expressions = 40 };
  struct random random = random_seed(11);
  struct node *symbols[symbol_count];
  struct node **kept = array_map(expressions_kept, sizeof *kept);
  timer_start(run);
  for (uint64_t i = 0; i < symbol_count; i++)
    symbols[i] = symbol(i, random_next(&random) >> 32);
  for (int round = 0; round < rounds; round++) {
    polynomial_work(&random);
    for (int i = 0; i < expressions; i++) {
      struct node **slot = &kept[random_below(&random, expressions_kept)];
      if (*slot != NULL) drop(*slot);
      *slot = expression_work(&random, symbols);
    }
  }
  timer_stop(run);
  run->operations = tally.serial;
  for (int i = 0; i < expressions_kept; i++) {
    if (kept[i] != NULL) drop(kept[i]);
  }
  for (int i = 0; i < symbol_count; i++) drop(symbols[i]);
  run_add_tally(run, &tally);
}
