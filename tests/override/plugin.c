/* plugin.c - a library that processes.c loads: it allocates while it is loaded, in a
 * variable of each thread, and while it is unloaded. */
#include <stdlib.h>
#include <string.h>

static char *held;
static __thread char per_thread[3000]; /* the loader allocates it on first use */

__attribute__((constructor)) static void plugin_begin(void) {
  held = strdup("held by the plugin");
}

__attribute__((destructor)) static void plugin_end(void) { free(held); }

__attribute__((visibility("default"))) char *plugin_copy(size_t times);

/* What the plugin holds, repeated; for the caller to free. */
char *plugin_copy(size_t times) {
  const size_t length = strlen(held);
  char *copy = malloc(length * times + 1);
  if (copy == NULL) return NULL;
  for (size_t i = 0; i < times; i++) memcpy(copy + i * length, held, length);
  copy[length * times] = 0;
  per_thread[times % sizeof per_thread]++;
  return copy;
}
