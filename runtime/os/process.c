#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/time.h>
#include <unistd.h>

#include "base/bits.h"
#include "os/os.h"

static size_t milliseconds(struct timeval t) {
  return (size_t)t.tv_sec * 1000u + (size_t)t.tv_usec / 1000u;
}

/* Resident bytes now: the second number of /proc/self/statm, in pages; 0 if unknown. */
static size_t current_resident(void) {
  size_t pages = 0;
#ifdef __linux__
  char text[128];
  const int file = open("/proc/self/statm", O_RDONLY | O_CLOEXEC);
  if (file < 0) return 0;
  const ssize_t length = read(file, text, sizeof text - 1);
  close(file);
  if (length <= 0) return 0;
  text[length] = 0;
  const char *second = strchr(text, ' ');
  if (second != NULL) pages = (size_t)strtoul(second, NULL, 10);
#endif
  return pages * os_page_size();
}

void os_process_info(struct os_process_info *info) {
  const int saved_errno = errno;
  struct rusage usage;
  memset(&usage, 0, sizeof usage);
  getrusage(RUSAGE_SELF, &usage);
  info->user_milliseconds = milliseconds(usage.ru_utime);
  info->system_milliseconds = milliseconds(usage.ru_stime);
  info->page_faults = (size_t)usage.ru_majflt;
#ifdef __APPLE__
  info->peak_resident = (size_t)usage.ru_maxrss;
#else
  info->peak_resident = (size_t)usage.ru_maxrss * KiB;
#endif
  info->current_resident = current_resident();
  if (info->current_resident == 0) info->current_resident = info->peak_resident;
  errno = saved_errno;
}

#ifdef __linux__
/* Read the next line of a text, and keep its first characters. Returns false at the end. */
static bool next_line(int file, char *line, size_t room) {
  static char buffer[4096]; /* one thread is there, in the child of a fork */
  static size_t used, size;
  size_t length = 0;
  for (;;) {
    if (used == size) {
      const ssize_t got = read(file, buffer, sizeof buffer);
      used = 0;
      size = got > 0 ? (size_t)got : 0;
      if (size == 0) return false;
    }
    const char c = buffer[used++];
    if (c == '\n') break;
    if (length + 1 < room) line[length++] = c;
  }
  line[length] = 0;
  return true;
}
#endif

bool os_is_shared(const void *p) {
  bool is_shared = true;
#ifdef __linux__
  const int saved_errno = errno;
  const int file = open("/proc/self/maps", O_RDONLY | O_CLOEXEC);
  char line[64]; /* start-end rwxp ... */
  while (file >= 0 && next_line(file, line, sizeof line)) {
    char *end;
    const uintptr_t first = (uintptr_t)strtoull(line, &end, 16);
    const uintptr_t limit = (uintptr_t)strtoull(end + 1, &end, 16);
    if ((uintptr_t)p >= first && (uintptr_t)p < limit) is_shared = end[4] != 'p';
  }
  if (file >= 0) close(file);
  errno = saved_errno;
#endif
  return is_shared;
}
