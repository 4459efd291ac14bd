/* report.c - the report of memory, for people and for programs.
 *
 * Invariant: both forms say the same of what lives, type by type in the order of object_types.
 *
 * Copyright (c) 2026 the mirt authors. SPDX-License-Identifier: MIT
 */
#include "report.h"
#include <errno.h>

void report_take(report_t *report, const lisp_t *lisp) {
  const mirt_cage_t *cage = mirt_runtime_cage(lisp->memory.runtime);
  *report = (report_t){.has_cage = cage != NULL,
                       .limit = lisp->memory.limit,
                       .collector = lisp->collector};
  if (report->has_cage) report->cage = *cage;
}

void report_take_usage(report_t *report, lisp_t *lisp) {
  collector_run(lisp);
  for (int type = 0; type < TYPE_COUNT; type++) {
    const memory_usage_t usage = memory_usage(&lisp->memory, (object_type_t)type);
    report->types[type] = usage;
    report->total.objects += usage.objects;
    report->total.bytes += usage.bytes;
    report->total.pages += usage.pages;
    report->total.page_bytes += usage.page_bytes;
  }
  report->made_bytes = lisp->collector.freed_bytes + report->total.bytes;
}

static void print_place(const report_t *report, const char *program, FILE *file) {
  const size_t mebibyte = (size_t)1 << 20;
  if (report->has_cage) {
    const mirt_cage_t *cage = &report->cage;
    fprintf(file,
            "%s: references of 32 bits in a cage: base %#llx, %s, shift %u, %zu MiB",
            program, (unsigned long long)cage->base, mirt_cage_mode_name(cage->mode),
            cage->shift, cage->reserved / mebibyte);
  } else {
    fprintf(file, "%s: pointers of 64 bits", program);
  }
  if (report->limit != 0)
    fprintf(file, ", %zu KiB for live objects", report->limit / 1024);
  fputc('\n', file);
}

static void print_usage(const char *name, const memory_usage_t *usage, FILE *file) {
  fprintf(file, "  %-12s %10zu %12zu %8zu %14zu\n", name, usage->objects, usage->bytes,
          usage->pages, usage->page_bytes);
}

void report_print(const report_t *report, const char *program, FILE *file) {
  print_place(report, program, file);
  fprintf(file, "  %-12s %10s %12s %8s %14s\n", "type", "objects", "bytes", "pages",
          "bytes of pages");
  for (int type = 0; type < TYPE_COUNT; type++) {
    print_usage(object_types[type].name, &report->types[type], file);
  }
  print_usage("total", &report->total, file);
  const collector_t *collector = &report->collector;
  fprintf(file, "  made %zu bytes of objects, the collected ones too\n",
          report->made_bytes);
  fprintf(file, "  ran %.1f ms; %zu collections took %.1f ms, the longest %.2f ms\n",
          (double)report->run_microseconds / 1000, collector->count,
          (double)collector->pause_nanoseconds / 1e6,
          (double)collector->longest_nanoseconds / 1e6);
  fprintf(file, "  destroying the runtime took %.2f ms\n",
          (double)report->destroy_microseconds / 1000);
}

static void write_usage(const char *name, const memory_usage_t *usage, FILE *file) {
  fprintf(file, "%s_objects=%zu\n%s_bytes=%zu\n", name, usage->objects, name,
          usage->bytes);
  fprintf(file, "%s_pages=%zu\n%s_page_bytes=%zu\n", name, usage->pages, name,
          usage->page_bytes);
}

int report_write(const report_t *report, const char *program, const char *file_name) {
  FILE *file = fopen(file_name, "w");
  if (file == NULL) return errno;
  fprintf(file, "program=%s\nvalue_bytes=%zu\nlimit=%zu\n", program, sizeof(value_t),
          report->limit);
  if (report->has_cage) {
    const mirt_cage_t *cage = &report->cage;
    fprintf(file, "cage_base=%#llx\ncage_mode=%s\n", (unsigned long long)cage->base,
            mirt_cage_mode_name(cage->mode));
    fprintf(file, "cage_shift=%u\ncage_reserved=%zu\n", cage->shift, cage->reserved);
  }
  for (int type = 0; type < TYPE_COUNT; type++) {
    write_usage(object_types[type].name, &report->types[type], file);
  }
  write_usage("total", &report->total, file);
  fprintf(file, "made_bytes=%zu\n", report->made_bytes);
  fprintf(file, "collections=%zu\npeak_bytes=%zu\n", report->collector.count,
          report->collector.peak_bytes);
  fprintf(file, "gc_us=%llu\n",
          (unsigned long long)report->collector.pause_nanoseconds / 1000);
  fprintf(file, "longest_gc_us=%llu\n",
          (unsigned long long)report->collector.longest_nanoseconds / 1000);
  fprintf(file, "run_us=%llu\n", (unsigned long long)report->run_microseconds);
  fprintf(file, "destroy_us=%llu\n", (unsigned long long)report->destroy_microseconds);
  const bool failed = ferror(file) != 0;
  return fclose(file) != 0 || failed ? EIO : 0;
}
