/* string.c - copies of strings, in blocks of a heap. */
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "heap/alloc.h"

#ifndef PATH_MAX
#define PATH_MAX 4096
#endif

static char *copy_string(mi_heap_t *heap, const char *s, size_t length) {
  char *copy = heap_allocate(heap, length + 1);
  if (copy == NULL) return NULL;
  memcpy(copy, s, length);
  copy[length] = 0;
  return copy;
}

char *mi_heap_strdup(mi_heap_t *heap, const char *s) {
  return s == NULL ? NULL : copy_string(heap, s, strlen(s));
}

char *mi_heap_strndup(mi_heap_t *heap, const char *s, size_t n) {
  return s == NULL ? NULL : copy_string(heap, s, strnlen(s, n));
}

char *mi_heap_realpath(mi_heap_t *heap, const char *fname, char *resolved_name) {
  if (resolved_name != NULL) return realpath(fname, resolved_name);
  char resolved[PATH_MAX];
  if (realpath(fname, resolved) == NULL) return NULL;
  return mi_heap_strdup(heap, resolved);
}

unsigned short *mi_wcsdup(const unsigned short *s) {
  if (s == NULL) return NULL;
  size_t length = 0;
  while (s[length] != 0) length++;
  const size_t size = (length + 1) * sizeof *s;
  unsigned short *copy = mi_malloc(size);
  return copy == NULL ? NULL : memcpy(copy, s, size);
}

unsigned char *mi_mbsdup(const unsigned char *s) {
  return (unsigned char *)mi_strdup((const char *)s);
}

int mi_dupenv_s(char **buf, size_t *size, const char *name) {
  if (buf == NULL || name == NULL) return EINVAL;
  if (size != NULL) *size = 0;
  *buf = NULL;
  const char *value = getenv(name);
  if (value == NULL) return 0;
  *buf = mi_strdup(value);
  if (*buf == NULL) return ENOMEM;
  if (size != NULL) *size = strlen(value) + 1;
  return 0;
}

/* Wide environments exist on Windows only. */
int mi_wdupenv_s(unsigned short **buf, size_t *size, const unsigned short *name) {
  if (buf == NULL || name == NULL) return EINVAL;
  if (size != NULL) *size = 0;
  *buf = NULL;
  return EINVAL;
}
