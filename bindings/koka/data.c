#include "data.h"

/* ---- lists: element, rest ---- */

/* In the place of an object that was taken apart, or a new one; NULL without memory. */
static object_t *rebuild(context_t *context, object_t *again, uint16_t tag,
                         uint16_t fields) {
  return again != NULL ? again : object_new(context, tag, fields);
}

box_t list_cons(context_t *context, int32_t element, box_t rest) {
  object_t *cons = rest == failed ? NULL : object_new(context, CONS, 2);
  if (cons == NULL) {
    box_drop(context, rest);
    return failed;
  }
  cons->field[0] = box_int(element);
  cons->field[1] = rest;
  return box_object(cons);
}

box_t list_of(context_t *context, int32_t count) {
  box_t list = EMPTY;
  while (count-- > 0 && list != failed) list = list_cons(context, count, list);
  return list;
}

box_t list_map(context_t *context, box_t list, map_function *function) {
  box_t first = EMPTY, *end = &first; /* of what is done */
  while (list != EMPTY) {
    object_t *cons = unbox_object(list);
    const int32_t element = unbox_int(cons->field[0]);
    const box_t rest = cons->field[1];
    cons = rebuild(context, take_apart(context, cons), CONS, 2);
    if (cons == NULL) {
      box_drop(context, rest);
      box_drop(context, first);
      return failed;
    }
    cons->field[0] = box_int(function(element));
    cons->field[1] = EMPTY;
    *end = box_object(cons);
    end = &cons->field[1];
    list = rest;
  }
  return first;
}

box_t list_reverse(context_t *context, box_t list) {
  box_t done = EMPTY;
  while (list != EMPTY) {
    object_t *cons = unbox_object(list);
    const box_t element = cons->field[0], rest = cons->field[1];
    cons = rebuild(context, take_apart(context, cons), CONS, 2);
    if (cons == NULL) {
      box_drop(context, rest);
      box_drop(context, done);
      return failed;
    }
    cons->field[0] = element;
    cons->field[1] = done;
    done = box_object(cons);
    list = rest;
  }
  return done;
}

int64_t list_sum(box_t list) {
  int64_t sum = 0;
  while (list != EMPTY) {
    const object_t *cons = unbox_object(list);
    sum += unbox_int(cons->field[0]);
    list = cons->field[1];
  }
  return sum;
}

/* ---- trees: left, key, value, right ---- */

enum { LEFT, KEY, VALUE, RIGHT, NODE_FIELDS };

static box_t new_node(context_t *context, int32_t key, int32_t value) {
  object_t *node = object_new(context, NODE, NODE_FIELDS);
  if (node == NULL) return failed;
  node->field[LEFT] = node->field[RIGHT] = EMPTY;
  node->field[KEY] = box_int(key);
  node->field[VALUE] = box_int(value);
  return box_object(node);
}

/* Down to the place of the key, with a copy of each node on the way that others refer
 * to. */
box_t tree_insert(context_t *context, box_t tree, int32_t key, int32_t value) {
  box_t *here = &tree;
  while (*here != EMPTY) {
    const object_t *old = unbox_object(*here);
    const box_t fields[NODE_FIELDS] = {old->field[LEFT], old->field[KEY],
                                       old->field[VALUE], old->field[RIGHT]};
    object_t *node = take_apart(context, unbox_object(*here));
    if (node == NULL) {
      node = object_new(context, NODE, NODE_FIELDS);
      *here = node == NULL ? EMPTY : box_object(node);
      if (node == NULL) {
        box_drop(context, fields[LEFT]);
        box_drop(context, fields[RIGHT]);
        box_drop(context, tree);
        return failed;
      }
      for (int i = 0; i < NODE_FIELDS; i++) node->field[i] = fields[i];
    }
    const int32_t here_key = unbox_int(node->field[KEY]);
    if (here_key == key) {
      node->field[VALUE] = box_int(value);
      return tree;
    }
    here = &node->field[key < here_key ? LEFT : RIGHT];
  }
  const box_t leaf = new_node(context, key, value);
  if (leaf == failed) {
    box_drop(context, tree);
    return failed;
  }
  *here = leaf;
  return tree;
}

int32_t tree_find(box_t tree, int32_t key, int32_t otherwise) {
  while (tree != EMPTY) {
    const object_t *node = unbox_object(tree);
    const int32_t here = unbox_int(node->field[KEY]);
    if (here == key) return unbox_int(node->field[VALUE]);
    tree = node->field[key < here ? LEFT : RIGHT];
  }
  return otherwise;
}

/* The trees of this program are made with keys in random order, so they are not deep. */
int64_t tree_sum(box_t tree) {
  if (tree == EMPTY) return 0;
  const object_t *node = unbox_object(tree);
  return tree_sum(node->field[LEFT]) + unbox_int(node->field[VALUE]) +
         tree_sum(node->field[RIGHT]);
}

size_t tree_size(box_t tree) {
  if (tree == EMPTY) return 0;
  const object_t *node = unbox_object(tree);
  return tree_size(node->field[LEFT]) + 1 + tree_size(node->field[RIGHT]);
}
