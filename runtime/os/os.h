/* os.h - the operating system: address space, memory, clock, NUMA.
 *
 * Invariant: every system call of mirt is made in this room. Sizes and addresses passed in
 * are multiples of the system's page size. A call that fails changes nothing and reports
 * nothing: the caller knows what it means. errno is left as the caller had it.
 */
#ifndef MIRT_OS_OS_H
#define MIRT_OS_OS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Bytes in a page of the operating system. */
size_t os_page_size(void);

/* Reserve address space, aligned. Committed space can be touched at once; other space
 * faults until os_commit. Returns NULL when there is none. */
void *os_reserve(size_t size, size_t alignment, bool commit);

/* Reserve exactly [base, base + size). Returns 0, EEXIST when something is mapped there,
 * or ENOMEM. */
int os_reserve_at(void *base, size_t size, bool commit);

/* Reserve committed memory in large pages of 2 MiB. Returns NULL when the system has not
 * enough of them set aside. */
void *os_reserve_large(size_t size);

/* Put a huge page of 1 GiB, from those that the system has set aside, over reserved
 * addresses, on a NUMA node or -1 for any, and fill it with zeros. Returns 0, or ENOMEM when
 * there is none: then the addresses are as before. Sets *bind_error to 0, or to the error with
 * which the system refused to bind it to the node: then it lies on another. */
int os_map_huge_page(void *p, int numa_node, int *bind_error);

/* Reserve committed memory for metadata: zero, and with an unmapped page on both sides, so
 * that an overrun elsewhere cannot run into it. */
void *os_reserve_guarded(size_t size);
void os_release_guarded(void *p, size_t size);

/* Give a reservation, or part of one, back. */
void os_release(void *p, size_t size);

/* Make reserved memory usable. Returns false when the system has no memory for it. */
bool os_commit(void *p, size_t size);

/* Give the memory behind an address range back while the range stays usable. With discard,
 * at once, and private memory reads as zero afterwards; otherwise when the system needs
 * it, with unknown contents until then. Returns true on success. */
bool os_purge(void *p, size_t size, bool discard);

/* Make a range unreadable, or readable again, keeping what it holds. */
bool os_protect(void *p, size_t size, bool accessible);

/* Ask for transparent huge pages in a range. */
void os_prefer_huge_pages(void *p, size_t size);

/* Number of NUMA nodes, at least 1, and the node of the processor we run on. */
size_t os_numa_node_count(void);
int os_numa_node(void);

/* Milliseconds, and nanoseconds, of a clock that never goes back. */
uint64_t os_clock_milliseconds(void);
uint64_t os_clock_nanoseconds(void);

/* Does the system hand out only memory that it really has (no overcommit)? */
bool os_commits_strictly(void);

/* Do p and what lies behind it in its mapping belong to the parent of a fork too? True where
 * the system does not tell. Safe in the child of a fork: it allocates nothing. */
bool os_is_shared(const void *p);

/* What the operating system knows about this process: bytes, milliseconds, counts. */
struct os_process_info {
  size_t user_milliseconds;
  size_t system_milliseconds;
  size_t current_resident;
  size_t peak_resident;
  size_t page_faults;
};
void os_process_info(struct os_process_info *info);

#endif
