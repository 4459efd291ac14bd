/* mirt/pmr.hpp - heaps as memory resources, for the containers of std::pmr (C++17).
 *
 *   default_heap_resource()  the calling thread's default heap, for any thread
 *   heap_resource            a heap that the program has
 *   own_heap_resource        a heap of the resource's own, which ends with it
 *
 *   #include <cstdio>
 *   #include <map>
 *   #include <mirt/pmr.hpp>
 *   #include <string>
 *   int main() {
 *     mirt::own_heap_resource request(7);  // makes a heap with tag 7
 *     std::pmr::map<std::pmr::string, int> count(&request);
 *     for (const char* word : {"to", "be", "or", "not", "to", "be"}) count[word]++;
 *     std::printf("%d\n", count["be"]);  // nodes and strings: all lie in that heap
 *   }
 *
 * What holds for all three:
 *
 * - A block may be deallocated in any thread, by mi_free too. Allocating belongs to the
 *   owner of the heap: the thread that made the heap, or the one that its mutator is bound
 *   to. A std::pmr::synchronized_pool_resource allocates in whatever thread asks it: over
 *   default_heap_resource() that is right, over the others only while one thread asks.
 * - When memory is short, allocate calls the new handler and tries again, as operator new
 *   does; without a handler it throws std::bad_alloc. The standard asks that alignments be
 *   powers of two: a larger one than 16 that is not ends in std::bad_alloc at once.
 * - A resource is equal to itself only, as those of the standard library are, though each
 *   could free what another allocated. Between containers with equal resources memory
 *   changes hands: blocks would stay in use after the heap they lie in was destroyed, or
 *   turn up in a container whose heap is bound to another arena or tag. With unequal ones
 *   the elements are moved.
 * - Resources are neither copied nor moved, since containers hold their addresses.
 * - Without exceptions, std::abort is called where one would be thrown. Run-time type
 *   information is not needed.
 *
 * Copyright (c) 2026 the mirt authors. SPDX-License-Identifier: MIT
 */
#ifndef MIRT_PMR_HPP
#define MIRT_PMR_HPP

#include <mimalloc.h>

#include <cerrno>
#include <cstddef>
#include <cstdlib>
#include <memory_resource>
#include <new>
#include <stdexcept>

namespace mirt {

/* What becomes of the blocks that live when the heap of an own_heap_resource ends. */
enum class at_end {
  destroy_blocks, /* they are gone, without a look at any */
  keep_blocks     /* they stay valid until they are freed, in any thread; other heaps of
                     the same tag may take over the free memory beside them */
};

namespace detail {

/* An attempt to allocate: the block, or a null pointer. */
inline void* try_take(mi_heap_t* heap, std::size_t size, std::size_t alignment) noexcept {
  return alignment <= mi_cxx::natural_alignment
             ? mi_heap_malloc(heap, size)
             : mi_heap_malloc_aligned(heap, size, alignment);
}

/* No new handler could help with an alignment that is none: it would be called for ever. */
inline void check_alignment(std::size_t alignment) {
  if (alignment <= mi_cxx::natural_alignment || (alignment & (alignment - 1)) == 0) return;
#if defined(__cpp_exceptions)
  throw std::bad_alloc();
#else
  std::abort();
#endif
}

[[noreturn]] inline void no_such_heap() {
#if defined(__cpp_exceptions)
  throw std::invalid_argument("mirt::own_heap_resource: no such tag or arena");
#else
  std::abort();
#endif
}

class default_resource final : public std::pmr::memory_resource {
  void* do_allocate(std::size_t bytes, std::size_t alignment) override {
    check_alignment(alignment);
    return mi_cxx::default_heap().take(bytes, alignment);
  }
  void do_deallocate(void* p, std::size_t, std::size_t) noexcept override { mi_free(p); }
  bool do_is_equal(const std::pmr::memory_resource& other) const noexcept override {
    return this == &other;
  }
};

}  // namespace detail

/* The resource whose blocks come from the default heap of whatever thread allocates
 * (mi_heap_set_default), as mi_malloc's do. Returns the same address each time, never
 * null; the resource is there until the process ends, for destructors of static objects,
 * too. Any thread may call this, and use the resource. Allocating throws std::bad_alloc.
 * To have all std::pmr containers use it: std::pmr::set_default_resource. */
[[nodiscard]] inline std::pmr::memory_resource* default_heap_resource() noexcept {
  alignas(detail::default_resource) static unsigned char
      place[sizeof(detail::default_resource)];
  static detail::default_resource* const resource = ::new (place) detail::default_resource;
  return resource; /* never destroyed */
}

/* A resource over a heap that the program made and ends itself. Several may share a heap. */
class heap_resource : public std::pmr::memory_resource {
 public:
  /* Use a heap.
   *   heap  not null. It has to live as long as anything allocates from the resource, and
   *         if it is going to be destroyed, as long as anything uses what was allocated
   * Throws nothing. Any thread may call this; allocating belongs to the heap's owner and
   * throws std::bad_alloc. The destructor does nothing, in any thread. */
  explicit heap_resource(mi_heap_t* heap) noexcept : heap_(heap) {}
  heap_resource(const heap_resource&) = delete;
  heap_resource& operator=(const heap_resource&) = delete;
  ~heap_resource() override = default;

  /* The heap. Throws nothing. Any thread may call this. */
  [[nodiscard]] mi_heap_t* heap() const noexcept { return heap_; }

 protected:
  /* What memory_resource::allocate, deallocate and is_equal call; see there, and above. */
  void* do_allocate(std::size_t bytes, std::size_t alignment) override {
    detail::check_alignment(alignment);
    return mi_cxx::insist(
        [this, bytes, alignment]() { return detail::try_take(heap_, bytes, alignment); });
  }
  void do_deallocate(void* p, std::size_t, std::size_t) noexcept override { mi_free(p); }
  bool do_is_equal(const std::pmr::memory_resource& other) const noexcept override {
    return this == &other;
  }

 private:
  mi_heap_t* const heap_;
};

/* A resource that makes a heap and ends it. Deallocating frees, so this is no arena that
 * only grows; release() and the destructor need no look at the blocks that are left. */
class own_heap_resource : public std::pmr::memory_resource {
 public:
  /* Make a heap, which belongs to the calling thread's current owner, as the resource does
   * from then on.
   *   heap_tag  0 to 32767: what blocks may replace each other (mi_heap_new_ex)
   *   arena_id  take memory from this arena only; 0 for any that is not exclusive. The
   *             arena has to live as long as the resource
   *   end       what release() and the destructor do with blocks that live
   * Throws std::invalid_argument when there is no such tag or arena, std::bad_alloc when
   * there is no memory for the heap's record. Any thread may call this. */
  explicit own_heap_resource(int heap_tag = 0, mi_arena_id_t arena_id = 0,
                             at_end end = at_end::destroy_blocks)
      : tag_(heap_tag), arena_(arena_id), end_(end), heap_(make_heap()) {}
  own_heap_resource(const own_heap_resource&) = delete;
  own_heap_resource& operator=(const own_heap_resource&) = delete;

  /* End the heap. Blocks that live then are gone, or stay, as the constructor was told. If
   * they go, no container that has any may be used again or be destroyed: let those end
   * before, or allocate them here too and never destroy them. A heap of another owner than
   * the calling thread's current one is left alone, with EPERM through the registered
   * error function; it ends with its owner then. */
  ~own_heap_resource() override { mi_heap_destroy(heap_); }

  /* End the heap, as the destructor does, and go on with a new one of the same kind: drop
   * everything, at about 75 ns per page of 64 KiB. If there is no memory for the new heap,
   * the next allocation makes it, or throws. If the heap was the thread's default, the
   * backing heap is that afterwards. Throws nothing. Only the owner may call this. */
  void release() noexcept {
    mi_heap_destroy(heap_);
    heap_ = new_heap();
  }

  /* The heap, until release() or the end; for mi_heap_visit_blocks, for example. Null only
   * after a release() that could make no heap, until the next allocation. Throws nothing.
   * Any thread may call this; only the owner may use the heap. */
  [[nodiscard]] mi_heap_t* heap() const noexcept { return heap_; }

 protected:
  /* What memory_resource::allocate, deallocate and is_equal call; see there, and above. A
   * new handler may call release() to find memory, so each attempt looks for the heap. */
  void* do_allocate(std::size_t bytes, std::size_t alignment) override {
    detail::check_alignment(alignment);
    return mi_cxx::insist([this, bytes, alignment]() {
      if (heap_ == nullptr) heap_ = make_heap();
      return detail::try_take(heap_, bytes, alignment);
    });
  }
  void do_deallocate(void* p, std::size_t, std::size_t) noexcept override { mi_free(p); }
  bool do_is_equal(const std::pmr::memory_resource& other) const noexcept override {
    return this == &other;
  }

 private:
  /* A heap, or a null pointer with errno. */
  mi_heap_t* new_heap() const noexcept {
    return mi_heap_new_ex(tag_, end_ == at_end::destroy_blocks, arena_);
  }

  mi_heap_t* make_heap() const {
    return mi_cxx::insist([this]() {
      mi_heap_t* const heap = new_heap();
      if (heap == nullptr && errno == EINVAL) detail::no_such_heap();
      return heap;
    });
  }

  const int tag_;
  const mi_arena_id_t arena_;
  const at_end end_;
  mi_heap_t* heap_;
};

}  // namespace mirt

#endif /* MIRT_PMR_HPP */
