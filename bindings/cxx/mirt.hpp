/* mirt.hpp - mirt for C++17: references of 32 bits as pointers of containers, heaps, and a
 * collected runtime with types, roots and objects.
 *
 * Invariant: a mirt::ref<T> is the distance of an object to the base of its cage, in 32 bits; 0
 * is null. Which cage that is, its second parameter says: a class that stands for it, with one
 * cage at a time for the whole process. So a reference needs no more than its 32 bits, and
 * following it is a load of the base, which stays in a register, and an addition.
 *
 *   struct my_cage {};                                    // stands for a cage
 *   mirt::cage<my_cage> cage;                             // reserves it
 *   mirt::heap heap(cage);
 *   using allocator = mirt::ref_allocator<std::pair<const int, int>, my_cage>;
 *   auto map = heap.make<std::map<int, int, std::less<int>, allocator>>(allocator(heap.get()));
 *   (*map)[1] = 2;
 *
 * The map itself lies in the cage, since its nodes refer to it. A reference is never made
 * to what is not in the cage, so with libc++ some functions are out of bounds that make one
 * to what lies on the stack: of std::vector the inserts that take a const value&, where
 * emplace does; remove and unique of the lists. A debug build asserts it. Containers that
 * take what allocators call a pointer as it is store references in their nodes: those of
 * libc++ and of libstdc++ from GCC 15 on. Older ones of libstdc++ do so in std::vector and
 * std::deque only; their nodes insist on plain pointers, and either keep those or do not
 * compile. std::basic_string compiles with neither library, and with libc++ insert of
 * std::deque does not.
 *
 * A runtime gives objects to a collector:
 *
 *   struct pair { mirt::ref<pair, my_cage> left, right; };
 *   mirt::runtime<my_cage> runtime;
 *   mirt::mutator<my_cage> mutator(runtime);              // bound to this thread
 *   mirt::type<pair, my_cage> pairs(runtime, "pair", &pair::left, &pair::right);
 *   mirt::root<pair, my_cage> root(mutator, mirt::make(mutator, pairs));
 *   runtime.collect();                                    // what roots lead to stays
 *
 * Errors throw std::bad_alloc where memory is short, and std::system_error with the code of the C
 * function otherwise. Without exceptions std::abort is called in their place. Run-time type
 * information is not needed. References, allocators and roots can be copied; nothing else can,
 * or be moved.
 *
 * Copyright (c) 2026 the mirt authors. SPDX-License-Identifier: MIT
 */
#ifndef MIRT_HPP
#define MIRT_HPP

#include <mirt.h>

#if defined(__has_include)
#if __has_include(<memory_resource>)
#include <mirt/pmr.hpp>
#define MIRT_HAS_PMR 1
#endif
#endif

#include <cassert>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <functional>
#include <initializer_list>
#include <iterator>
#include <memory>
#include <mutex>
#include <new>
#include <system_error>
#include <type_traits>
#include <utility>

namespace mirt {

/* ---- errors ---- */

namespace detail {

/* End with the exception for an error code of mirt; does not return. */
[[noreturn]] inline void fail(int code, const char* what) {
#if defined(__cpp_exceptions)
  if (code == ENOMEM) throw std::bad_alloc();
  throw std::system_error(code, std::generic_category(), what);
#else
  (void)code, (void)what;
  std::abort();
#endif
}

inline void check(int code, const char* what) {
  if (code != 0) fail(code, what);
}

/* Cages and the like are neither copied nor moved: their address or base is in use. */
struct pinned {
  pinned() = default;
  pinned(const pinned&) = delete;
  pinned& operator=(const pinned&) = delete;
};

/* The unit of references, 1 << shift bytes: a cage's class says so, if it wants to reach beyond
 * 4 GiB, and then only refers to what is aligned to that. */
template <class Cage, class = void>
struct shift_of : std::integral_constant<unsigned, 0> {
  static_assert(sizeof(Cage) != 0, "the class of a cage is defined where references are used");
};
template <class Cage>
struct shift_of<Cage, std::void_t<decltype(Cage::shift)>>
    : std::integral_constant<unsigned, Cage::shift> {};

/* Where the cage of a class lies; 0 while there is none. The same in all shared objects that can see
 * the class. */
template <class Cage>
struct __attribute__((visibility("default"))) place {
  static inline std::uintptr_t base = 0;
  static inline mirt_cage_t* cage = nullptr;

  /* The largest but one slice: the address behind the last object must not look like null. */
  static mirt_cage_options_t options(std::size_t size) noexcept {
    const std::size_t most = (std::size_t(1) << (32 + shift_of<Cage>::value)) -
                             2 * mi_arena_min_alignment();
    mirt_cage_options_t options = {};
    options.shift = shift_of<Cage>::value;
    options.size = size == 0 || size > most ? most : size;
    return options;
  }

  static void set(mirt_cage_t* new_cage) noexcept {
    cage = new_cage;
    base = new_cage == nullptr ? 0 : new_cage->base;
  }
};

}  // namespace detail

/* The cage that is meant when none is named. */
struct default_cage {};

/* For runtimes whose objects refer to each other by plain pointers. */
struct no_cage {};

/* ---- references ---- */

/* A reference to a T in the cage that Cage stands for: 4 bytes, a random access iterator as a
 * pointer is, and what std::pointer_traits wants of one. Converts to another reference where
 * T* converts, and to T* when asked to. Costs what pointers cost, and the base to add. Throws
 * nothing; following null, or a reference while there is no cage, is undefined. */
template <class T, class Cage = default_cage>
class ref {
  template <class U>
  using convertible = std::enable_if_t<std::is_convertible<U*, T*>::value, int>;
  static constexpr unsigned shift = detail::shift_of<Cage>::value;

 public:
  using element_type = T;
  using value_type = std::remove_cv_t<T>;
  using reference = std::add_lvalue_reference_t<T>;
  using pointer = ref;
  using difference_type = std::ptrdiff_t;
  using iterator_category = std::random_access_iterator_tag;
#if __cplusplus >= 202002L
  using iterator_concept = std::contiguous_iterator_tag;
#endif
  template <class U>
  using rebind = ref<U, Cage>;

  constexpr ref() noexcept = default;
  constexpr ref(std::nullptr_t) noexcept {}
  /* The reference to an object that lies in the cage, or to null. */
  explicit ref(T* object) noexcept : bits_(encode(object)) {}
  template <class U, convertible<U> = 0>
  ref(const ref<U, Cage>& other) noexcept : bits_(other.bits()) {
    if constexpr (!std::is_void<T>::value && !std::is_void<U>::value &&
                  !std::is_same<std::remove_cv_t<T>, std::remove_cv_t<U>>::value) {
      bits_ = encode(static_cast<T*>(other.get())); /* a base may lie elsewhere in an object */
    }
  }
  /* From a reference to void, or to a base, as static_cast does. */
  template <class U, class = std::enable_if_t<!std::is_convertible<U*, T*>::value>,
            class = decltype(static_cast<T*>(std::declval<U*>()))>
  explicit ref(const ref<U, Cage>& other) noexcept
      : bits_(encode(static_cast<T*>(other.get()))) {}

  /* What is stored; and the reference that is stored so. */
  constexpr mirt_ref_t bits() const noexcept { return bits_; }
  static constexpr ref from_bits(mirt_ref_t bits) noexcept {
    ref result;
    result.bits_ = bits;
    return result;
  }

  /* The address, or a null pointer. */
  T* get() const noexcept { return bits_ == 0 ? nullptr : address(); }
  explicit operator T*() const noexcept { return get(); }
  explicit operator bool() const noexcept { return bits_ != 0; }
  template <class U = T>
  std::enable_if_t<!std::is_void<U>::value, U&> operator*() const noexcept {
    return *address();
  }
  T* operator->() const noexcept { return address(); }
  template <class U = T>
  std::enable_if_t<!std::is_void<U>::value, U&> operator[](difference_type n) const noexcept {
    return address()[n];
  }
  template <class U = T>
  static std::enable_if_t<!std::is_void<U>::value, ref> pointer_to(U& object) noexcept {
    return ref(std::addressof(object));
  }

  ref& operator+=(difference_type n) noexcept {
    bits_ += static_cast<mirt_ref_t>(n * step());
    return *this;
  }
  ref& operator-=(difference_type n) noexcept { return *this += -n; }
  ref& operator++() noexcept { return *this += 1; }
  ref& operator--() noexcept { return *this += -1; }
  ref operator++(int) noexcept {
    const ref before = *this;
    ++*this;
    return before;
  }
  ref operator--(int) noexcept {
    const ref before = *this;
    --*this;
    return before;
  }
  friend ref operator+(ref r, difference_type n) noexcept { return r += n; }
  friend ref operator+(difference_type n, ref r) noexcept { return r += n; }
  friend ref operator-(ref r, difference_type n) noexcept { return r -= n; }
  friend difference_type operator-(ref a, ref b) noexcept {
    return (difference_type(a.bits_) - difference_type(b.bits_)) / step();
  }

  friend constexpr bool operator==(ref a, ref b) noexcept { return a.bits_ == b.bits_; }
  friend constexpr bool operator!=(ref a, ref b) noexcept { return a.bits_ != b.bits_; }
  friend constexpr bool operator<(ref a, ref b) noexcept { return a.bits_ < b.bits_; }
  friend constexpr bool operator>(ref a, ref b) noexcept { return a.bits_ > b.bits_; }
  friend constexpr bool operator<=(ref a, ref b) noexcept { return a.bits_ <= b.bits_; }
  friend constexpr bool operator>=(ref a, ref b) noexcept { return a.bits_ >= b.bits_; }
  friend constexpr bool operator==(ref a, std::nullptr_t) noexcept { return a.bits_ == 0; }
  friend constexpr bool operator==(std::nullptr_t, ref a) noexcept { return a.bits_ == 0; }
  friend constexpr bool operator!=(ref a, std::nullptr_t) noexcept { return a.bits_ != 0; }
  friend constexpr bool operator!=(std::nullptr_t, ref a) noexcept { return a.bits_ != 0; }

 private:
  T* address() const noexcept {
    return reinterpret_cast<T*>(detail::place<Cage>::base +
                                (static_cast<std::uintptr_t>(bits_) << shift));
  }

  static mirt_ref_t encode(T* object) noexcept {
    if (object == nullptr) return 0;
    const std::uintptr_t distance =
        reinterpret_cast<std::uintptr_t>(object) - detail::place<Cage>::base;
    assert(distance >> shift <= UINT32_MAX && (distance & ((1u << shift) - 1)) == 0);
    return static_cast<mirt_ref_t>(distance >> shift);
  }

  /* From one T to the next, in units of the cage. */
  static constexpr difference_type step() noexcept {
    static_assert(sizeof(T) % (std::size_t(1) << shift) == 0,
                  "elements of an array must be aligned to the unit of the cage");
    return difference_type(sizeof(T) >> shift);
  }

  mirt_ref_t bits_ = 0;
};

/* ---- cages ---- */

/* A cage, for as long as this lives; there can be one for each class at a time. No reference
 * into it is followed afterwards. */
template <class Cage = default_cage>
class cage : detail::pinned {
 public:
  /* Reserve a cage.
   *   size  bytes that its heaps can use; 0 for all that references reach
   * Throws std::bad_alloc, std::system_error (EBUSY: there is one for this class). Any
   * thread may call it, while no other thread makes or ends one for the class. */
  explicit cage(std::size_t size = 0) {
    if (detail::place<Cage>::cage != nullptr) detail::fail(EBUSY, "mirt::cage");
    const mirt_cage_options_t options = detail::place<Cage>::options(size);
    mirt_cage_t* made;
    detail::check(mirt_cage_create(&options, &made), "mirt::cage");
    detail::place<Cage>::set(made);
  }
  /* Heaps in it must have ended; else it stays, with EBUSY through the registered error
   * function. */
  ~cage() {
    if (mirt_cage_destroy(detail::place<Cage>::cage) == 0) detail::place<Cage>::set(nullptr);
  }

  /* The cage, and its arena. Throw nothing. */
  const mirt_cage_t* get() const noexcept { return detail::place<Cage>::cage; }
  mi_arena_id_t arena() const noexcept { return detail::place<Cage>::cage->arena; }
};

/* ---- heaps ---- */

/* Allocates from a heap in a cage, and hands out references: for containers. Copies use the same heap,
 * which has to live as long as they do, and belongs to the thread that made it. */
template <class T, class Cage = default_cage>
class ref_allocator {
 public:
  using value_type = T;
  using pointer = ref<T, Cage>;
  using const_pointer = ref<const T, Cage>;
  using void_pointer = ref<void, Cage>;
  using const_void_pointer = ref<const void, Cage>;
  using size_type = std::size_t;
  using difference_type = std::ptrdiff_t;
  using propagate_on_container_copy_assignment = std::true_type;
  using propagate_on_container_move_assignment = std::true_type;
  using propagate_on_container_swap = std::true_type;
  using is_always_equal = std::false_type;
  template <class U>
  struct rebind {
    using other = ref_allocator<U, Cage>;
  };

  explicit ref_allocator(mi_heap_t* heap) noexcept : heap_(heap) {}
  template <class U>
  ref_allocator(const ref_allocator<U, Cage>& other) noexcept : heap_(other.heap()) {}

  mi_heap_t* heap() const noexcept { return heap_; }

  /* Throws std::bad_alloc, after the new handler has been asked, as operator new does; of more
   * than max_size(), std::bad_array_new_length at once. */
  [[nodiscard]] pointer allocate(size_type count) {
    if (count > max_size()) mi_cxx::size_overflowed();
    const std::size_t size = count * sizeof(T);
    return pointer(static_cast<T*>(mi_cxx::insist(
        [this, size]() { return mi_heap_malloc_aligned(heap_, size, alignof(T)); })));
  }
  void deallocate(pointer p, size_type) noexcept { mi_free(p.get()); }

  /* What references reach. */
  size_type max_size() const noexcept {
    return (size_type(1) << (32 + detail::shift_of<Cage>::value)) / sizeof(T);
  }

 private:
  mi_heap_t* heap_;
};

/* What one allocates the other can free; but memory is to stay in its own heap. */
template <class T, class U, class Cage>
bool operator==(const ref_allocator<T, Cage>& a, const ref_allocator<U, Cage>& b) noexcept {
  return a.heap() == b.heap();
}
template <class T, class U, class Cage>
bool operator!=(const ref_allocator<T, Cage>& a, const ref_allocator<U, Cage>& b) noexcept {
  return a.heap() != b.heap();
}

/* Ends an object of a heap, from any thread. Of the object's own class, not of a base: a base
 * does not say where the block begins. */
template <class T>
struct heap_delete {
  void operator()(T* object) const noexcept {
    object->~T();
    mi_free(const_cast<std::remove_cv_t<T>*>(object));
  }
};

/* What heap::make returns. */
template <class T>
using heap_ptr = std::unique_ptr<T, heap_delete<T>>;

/* A heap, for as long as this lives, and then gone with all its blocks. It belongs to the
 * thread that makes it, or to the mutator that is bound to that; blocks can be freed anywhere.
 * One made while a mutator is bound ends before that does, and one made before is not used and
 * does not end meanwhile. Containers that use it have to end before, or never: then it ends them
 * all at once. */
class heap : detail::pinned {
 public:
  /* Make a heap.
   *   tag    0 to MIRT_TAG_MAX: which blocks may replace each other
   *   arena  where its memory comes from; 0 for any arena that is not exclusive
   * Throws std::bad_alloc, std::system_error (EINVAL: no such tag or arena). */
  explicit heap(int tag = 0, mi_arena_id_t arena = 0)
      : heap_(mi_heap_new_ex(tag, true, arena)) {
    if (heap_ == nullptr) detail::fail(errno == ENOMEM ? ENOMEM : EINVAL, "mirt::heap");
  }
  /* One in a cage. */
  template <class Cage>
  explicit heap(const cage<Cage>& in, int tag = 0) : heap(tag, in.arena()) {}
  ~heap() { mi_heap_destroy(heap_); }

  mi_heap_t* get() const noexcept { return heap_; }

  /* Allocators for containers: with plain pointers, and with references. */
  template <class T>
  mi_heap_stl_allocator<T> pointers() const noexcept {
    return mi_heap_stl_allocator<T>(heap_);
  }
  template <class T, class Cage = default_cage>
  ref_allocator<T, Cage> refs() const noexcept {
    return ref_allocator<T, Cage>(heap_);
  }

  /* Construct an object in the heap. A container with references has to lie in the cage itself
   * if its nodes refer to it, as those of std::map, std::list and std::unordered_map do.
   * release() of what is returned leaves it to the end of the heap, which calls no destructor.
   * Throws std::bad_alloc, and what the constructor does. */
  template <class T, class... Arguments>
  [[nodiscard]] heap_ptr<T> make(Arguments&&... arguments) {
    struct free_only {
      void operator()(void* memory) const noexcept { mi_free(memory); }
    };
    std::unique_ptr<void, free_only> memory(mi_cxx::insist(
        [this]() { return mi_heap_malloc_aligned(heap_, sizeof(T), alignof(T)); }));
    T* const object = ::new (memory.get()) T(std::forward<Arguments>(arguments)...);
    (void)memory.release();
    return heap_ptr<T>(object);
  }

#if defined(MIRT_HAS_PMR)
  /* For the containers of std::pmr; see mirt/pmr.hpp. */
  std::pmr::memory_resource* resource() noexcept { return &resource_; }
#endif

 private:
  mi_heap_t* const heap_;
#if defined(MIRT_HAS_PMR)
  heap_resource resource_{heap_};
#endif
};

/* ---- runtimes ---- */

namespace detail {

/* A root: a place outside of the heap that refers to an object. In a ring with the others of
 * its mutator. */
struct root_link {
  root_link* next = this;
  root_link* previous = this;
  void* object = nullptr;

  void link(root_link& ring) noexcept {
    next = &ring;
    previous = ring.previous;
    previous->next = this;
    ring.previous = this;
  }
  void unlink() noexcept {
    previous->next = next;
    next->previous = previous;
    next = previous = this;
  }
};

struct mutator_link {
  mutator_link* next = nullptr;
  root_link roots;
};

}  // namespace detail

/* A heap whose objects a collector frees; in the cage that Cage stands for, or with no_cage
 * anywhere. Ends with all its objects, whose destructors are not called: to have that, end the
 * roots and collect. Mutators have to end before, types are just forgotten. */
template <class Cage = default_cage>
class runtime : detail::pinned {
 public:
  static constexpr bool has_cage = !std::is_same<Cage, no_cage>::value;

  /* Create a runtime.
   *   options  as mirt_runtime_create takes them; the cage is filled in here
   *   size     bytes for objects at most; 0 for all that references reach, or 64 GiB
   * Throws std::bad_alloc, std::system_error (EBUSY: the class has a cage already; and as
   * mirt_runtime_create). Any thread may call it, while no other makes one for the class. */
  explicit runtime(mirt_runtime_options_t options = {}, std::size_t size = 0) {
    mirt_cage_options_t cage_options = {};
    options.cage = nullptr;
    options.size = size;
    if constexpr (has_cage) {
      if (detail::place<Cage>::cage != nullptr) detail::fail(EBUSY, "mirt::runtime");
      cage_options = detail::place<Cage>::options(size);
      options.cage = &cage_options;
    }
    detail::check(mirt_runtime_create(&options, &runtime_), "mirt::runtime");
    if constexpr (has_cage) {
      detail::place<Cage>::set(const_cast<mirt_cage_t*>(mirt_runtime_cage(runtime_)));
    }
  }
  ~runtime() {
    if (mirt_runtime_destroy(runtime_) != 0) return; /* a mutator is bound, which was reported */
    if constexpr (has_cage) detail::place<Cage>::set(nullptr);
  }

  mirt_runtime_t* get() const noexcept { return runtime_; }

  /* Collect: free what no root leads to, and run the destructors of what is freed. No other
   * thread uses the runtime meanwhile. Throws as mirt_collect fails. */
  mirt_gc_stats_t collect(const mirt_gc_options_t& options = {}) {
    mirt_gc_stats_t stats = {};
    detail::check(mirt_collect(runtime_, mark_roots, this, &options, &stats),
                  "mirt::runtime::collect");
    return stats;
  }

 private:
  template <class>
  friend class mutator;

  static void mark_roots(mirt_marker_t* marker, void* self) {
    for (const auto* mutator = static_cast<runtime*>(self)->mutators_; mutator != nullptr;
         mutator = mutator->next) {
      const detail::root_link* const ring = &mutator->roots;
      for (const auto* root = ring->next; root != ring; root = root->next) {
        mirt_mark(marker, root->object);
      }
    }
  }

  mirt_runtime_t* runtime_ = nullptr;
  std::mutex lock_; /* of the list */
  detail::mutator_link* mutators_ = nullptr;
};

/* Lets a thread allocate in a runtime: bound to it, from beginning to end. It holds the thread's
 * roots. Only that thread may use it. For heaps of the thread, see mirt::heap. */
template <class Cage = default_cage>
class mutator : detail::pinned {
 public:
  /* Throws std::bad_alloc. */
  explicit mutator(runtime<Cage>& in)
      : runtime_(in), mutator_(mirt_mutator_create_in(in.get())) {
    if (mutator_ == nullptr) detail::fail(ENOMEM, "mirt::mutator");
    mirt_mutator_bind(mutator_);
    const std::lock_guard<std::mutex> guard(runtime_.lock_);
    link_.next = runtime_.mutators_;
    runtime_.mutators_ = &link_;
  }
  /* Objects stay; the roots have ended. Mutators of a thread end in the reverse order. */
  ~mutator() {
    assert(link_.roots.next == &link_.roots);
    {
      const std::lock_guard<std::mutex> guard(runtime_.lock_);
      detail::mutator_link** link = &runtime_.mutators_;
      while (*link != &link_) link = &(*link)->next;
      *link = link_.next;
    }
    mirt_mutator_unbind(mutator_);
    mirt_mutator_destroy(mutator_);
  }

  mirt_mutator_t* get() const noexcept { return mutator_; }
  mirt_runtime_t* parent() const noexcept { return runtime_.get(); }

 private:
  template <class, class>
  friend class root;

  runtime<Cage>& runtime_;
  mirt_mutator_t* mutator_;
  detail::mutator_link link_;
};

/* ---- types ---- */

namespace detail {

/* Is it a reference, or a pointer, to something of the heap, or an array of them? Bytes of each,
 * and how many. */
template <class Member>
struct slot_traits;
template <class T, class Cage>
struct slot_traits<ref<T, Cage>> {
  using cage = Cage;
  static constexpr std::size_t size = sizeof(mirt_ref_t), count = 1;
};
template <class T>
struct slot_traits<T*> {
  using cage = no_cage;
  static constexpr std::size_t size = sizeof(void*), count = 1;
};
template <class Member>
struct slot_traits<const Member> : slot_traits<Member> {};
template <class Member, std::size_t n>
struct slot_traits<Member[n]> : slot_traits<Member> {
  static constexpr std::size_t count = n * slot_traits<Member>::count;
};
template <class Member, std::size_t n>
struct slot_traits<const Member[n]> : slot_traits<Member[n]> {};

/* Do all objects of T have their Base at the same place? A virtual one's place each object says
 * itself. */
template <class T, class Base, class = void>
struct has_base_in_place : std::false_type {};
template <class T, class Base>
struct has_base_in_place<T, Base,
                         std::void_t<decltype(static_cast<T*>(std::declval<Base*>()))>>
    : std::true_type {};

/* Where a member lies in an object. */
template <class T, class Owner, class Member>
std::size_t offset_of(Member Owner::* member) noexcept {
  alignas(T) static unsigned char memory[sizeof(T)];
  const T* object = reinterpret_cast<const T*>(memory);
  const auto* address = reinterpret_cast<const unsigned char*>(&(object->*member));
  return static_cast<std::size_t>(address - memory);
}

}  // namespace detail

/* What the collector knows of a class: its size, which members refer to objects, and its
 * destructor, which it calls when an object dies, if there is something to do. That runs after
 * the sweep: members that referred to what died too are null by then. */
template <class T, class Cage = default_cage>
class type : detail::pinned {
 public:
  /* Register a class.
   *   name     for reports
   *   members  of T or its bases that are not virtual, all that refer to objects of the
   *            runtime: mirt::ref with this cage, or plain pointers with no_cage, and arrays
   *            of them
   * Throws std::bad_alloc, std::system_error. Any thread may call it. */
  template <class... Owners, class... Members>
  explicit type(runtime<Cage>& in, const char* name, Members Owners::*... members)
      : type(in, mirt_type_options_t{}, name, members...) {}

  /* The same, with a tag, sealed or more aligned, as mirt_type_options_t says; sizes, slots and
   * finalizers are filled in here. */
  template <class... Owners, class... Members>
  type(runtime<Cage>& in, mirt_type_options_t options, const char* name,
       Members Owners::*... members) {
    static_assert(((std::is_same<typename detail::slot_traits<Members>::cage, Cage>::value &&
                    detail::slot_traits<Members>::size == slot_size) &&
                   ...),
                  "members refer to objects of this runtime");
    static_assert((detail::has_base_in_place<T, Owners>::value && ...),
                  "members are of T or of bases that are not virtual");
    std::uint64_t map[sizeof(T) / slot_size / 64 + 1] = {};
    (set_slots(map, detail::offset_of<T>(members) / slot_size,
               detail::slot_traits<Members>::count),
     ...);
    options.name = name;
    options.size = sizeof(T);
    constexpr std::size_t unit = std::size_t(1) << detail::shift_of<Cage>::value;
    for (const std::size_t least : {std::size_t(8), alignof(T), unit}) {
      if (options.alignment < least) options.alignment = least;
    }
    options.is_variable = false;
    if (sizeof...(members) != 0) {
      options.slot_size = slot_size;
      options.map = map;
      options.map_slots = sizeof(T) / slot_size;
    }
    if constexpr (!std::is_trivially_destructible<T>::value) options.finalize = destroy;
    type_ = mirt_type_new(in.get(), &options);
    if (type_ == nullptr) detail::fail(errno == 0 ? ENOMEM : errno, "mirt::type");
  }

  mirt_type_t* get() const noexcept { return type_; }

  /* Objects that live, or have not been swept. Exact while nobody allocates. */
  std::size_t objects() const noexcept {
    mirt_type_stats_t stats = {};
    mirt_type_stats(type_, &stats);
    return stats.objects;
  }

 private:
  static constexpr unsigned slot_size =
      std::is_same<Cage, no_cage>::value ? sizeof(void*) : sizeof(mirt_ref_t);

  static void set_slots(std::uint64_t* map, std::size_t slot, std::size_t count) noexcept {
    for (; count > 0; slot++, count--) map[slot / 64] |= std::uint64_t(1) << (slot % 64);
  }
  /* What a destructor throws must not go through the collector. */
  static bool destroy(void* object, std::size_t, void*) noexcept {
    static_cast<T*>(object)->~T();
    return false;
  }

  mirt_type_t* type_;
};

/* ---- roots and objects ---- */

/* Keeps an object, and all that it leads to, alive: like a pointer, on the stack or anywhere outside of
 * the runtime. To make, move and end one costs some stores. Belongs to the thread of its mutator. */
template <class T, class Cage = default_cage>
class root {
  template <class U>
  using convertible = std::enable_if_t<std::is_convertible<T*, U*>::value, int>;

 public:
  explicit root(mutator<Cage>& of, T* object = nullptr) noexcept {
    link_.object = const_cast<std::remove_cv_t<T>*>(object);
    link_.link(of.link_.roots);
  }
  root(mutator<Cage>& of, ref<T, Cage> object) noexcept : root(of, object.get()) {}
  /* Throws nothing; but what says so, libstdc++ moves in memory as if nobody else knew where it is
   * (__restrict), which the roots beside it do. */
  root(const root& other) noexcept(false) {
    link_.object = other.link_.object;
    link_.link(*other.link_.next);
  }
  /* Where U* converts to T*. */
  template <class U, std::enable_if_t<std::is_convertible<U*, T*>::value, int> = 0>
  root(const root<U, Cage>& other) noexcept {
    *this = other.get();
    link_.link(*other.link_.next);
  }
  root& operator=(const root& other) noexcept { return *this = other.get(); }
  root& operator=(T* object) noexcept {
    link_.object = const_cast<std::remove_cv_t<T>*>(object);
    return *this;
  }
  root& operator=(ref<T, Cage> object) noexcept { return *this = object.get(); }
  ~root() { link_.unlink(); }

  T* get() const noexcept { return static_cast<T*>(link_.object); }
  T& operator*() const noexcept { return *get(); }
  T* operator->() const noexcept { return get(); }
  explicit operator bool() const noexcept { return link_.object != nullptr; }
  template <class U, convertible<U> = 0>
  operator ref<U, Cage>() const noexcept {
    return ref<U, Cage>(get());
  }

 private:
  template <class, class>
  friend class root;

  mutable detail::root_link link_; /* roots beside it change it, of a const one too */
};

template <class T, class U, class Cage>
bool operator==(const root<T, Cage>& a, const root<U, Cage>& b) noexcept {
  return a.get() == b.get();
}
template <class T, class U, class Cage>
bool operator!=(const root<T, Cage>& a, const root<U, Cage>& b) noexcept {
  return a.get() != b.get();
}
template <class T, class Cage>
bool operator==(const root<T, Cage>& a, std::nullptr_t) noexcept {
  return !a;
}
template <class T, class Cage>
bool operator==(std::nullptr_t, const root<T, Cage>& a) noexcept {
  return !a;
}
template <class T, class Cage>
bool operator!=(const root<T, Cage>& a, std::nullptr_t) noexcept {
  return bool(a);
}
template <class T, class Cage>
bool operator!=(std::nullptr_t, const root<T, Cage>& a) noexcept {
  return bool(a);
}

/* Allocate an object and construct it; returns null, with the error in errno, as mirt_new does.
 * Whatever the constructor throws goes through, and the memory back. While it runs, the object is
 * a root: it may allocate, and collect. The result is none: keep it in a root, or in an object
 * that lives, before the next collection. Only the thread of the mutator may call it. */
template <class T, class Cage, class... Arguments>
[[nodiscard]] T* make_or_null(mutator<Cage>& of, const type<T, Cage>& what,
                              Arguments&&... arguments) {
  assert(what.get()->runtime == of.parent());
  void* const memory = mirt_new_zeroed(of.get(), what.get());
  if (memory == nullptr) return nullptr;
#if defined(__cpp_exceptions)
  struct guard {
    void* memory;
    ~guard() { mirt_delete(memory); }
  } unfinished{memory};
#endif
  const root<T, Cage> alive(of, static_cast<T*>(memory));
  T* const object = ::new (memory) T(std::forward<Arguments>(arguments)...);
#if defined(__cpp_exceptions)
  unfinished.memory = nullptr;
#endif
  return object;
}

/* The same; throws std::bad_alloc without memory, std::system_error with another error. */
template <class T, class Cage, class... Arguments>
[[nodiscard]] T* make(mutator<Cage>& of, const type<T, Cage>& what, Arguments&&... arguments) {
  T* const object = mirt::make_or_null(of, what, std::forward<Arguments>(arguments)...);
  if (object == nullptr) detail::fail(errno, "mirt::make");
  return object;
}

}  // namespace mirt

/* Null has the address null, which operator-> does not ask for. */
template <class T, class Cage>
struct std::pointer_traits<mirt::ref<T, Cage>> {
  using pointer = mirt::ref<T, Cage>;
  using element_type = T;
  using difference_type = std::ptrdiff_t;
  template <class U>
  using rebind = mirt::ref<U, Cage>;
  template <class U = T>
  static std::enable_if_t<!std::is_void<U>::value, pointer> pointer_to(U& object) noexcept {
    return pointer::pointer_to(object);
  }
  static T* to_address(pointer r) noexcept { return r.get(); }
};

/* A reference is a key as a pointer is. */
template <class T, class Cage>
struct std::hash<mirt::ref<T, Cage>> {
  std::size_t operator()(mirt::ref<T, Cage> r) const noexcept {
    return std::hash<mirt_ref_t>()(r.bits());
  }
};

#endif /* MIRT_HPP */
