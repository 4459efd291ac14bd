// test_cxx.cpp - mirt in a C++ program: allocators for containers, the operators new and
// delete, and what the functions for C++ do when memory is short.
//
// Built with the installed headers only. Prints how many checks there were and how many
// failed.

#include <mimalloc-new-delete.h>
#include <mimalloc.h>

#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <functional>
#include <list>
#include <map>
#include <memory>
#include <new>
#include <numeric>
#include <set>
#include <string>
#include <thread>
#include <type_traits>
#include <unordered_map>
#include <utility>
#include <vector>

namespace {

unsigned checks, failures;

void check(bool condition, const char *text, int line) {
  checks++;
  if (condition) return;
  failures++;
  std::printf("test_cxx.cpp:%d: failed: %s\n", line, text);
}

#define CHECK(condition) check((condition), #condition, __LINE__)

template <class Exception, class Action> bool throws(Action action) {
  try {
    action();
  } catch (const Exception &) {
    return true;
  } catch (...) {
  }
  return false;
}

// Volatile, or compilers warn of them. No block can be so large; no power of two.
volatile std::size_t too_much = PTRDIFF_MAX;
volatile std::size_t no_alignment = 24;

bool is_in_mirt(const void *p) { return mi_is_in_heap_region(p); }

bool is_aligned(const void *p, std::size_t alignment) {
  return reinterpret_cast<std::uintptr_t>(p) % alignment == 0;
}

std::size_t live_blocks(mi_heap_t *heap) {
  std::size_t count = 0;
  mi_heap_visit_blocks(
      heap, true,
      [](const mi_heap_t *, const mi_heap_area_t *, void *block, std::size_t, void *arg) {
        if (block != nullptr) ++*static_cast<std::size_t *>(arg);
        return true;
      },
      &count);
  return count;
}

mi_stats_t stats_now() {
  mi_stats_t_decl(stats);
  mi_stats_get(&stats);
  return stats;
}

// ---- containers, with each of the allocators ----

template <class T> struct alignas(256) wide { T value; };

template <template <class> class Allocator>
void use_containers(const Allocator<int> &allocator, mi_heap_t *heap) {
  const auto is_ours = [=](const void *p) {
    return is_in_mirt(p) && (heap == nullptr || mi_heap_of(p) == heap);
  };

  std::vector<int, Allocator<int>> numbers(allocator);
  for (int i = 0; i < 10000; i++) numbers.push_back(i);
  CHECK(std::accumulate(numbers.begin(), numbers.end(), 0L) == 9999L * 10000 / 2);
  CHECK(is_ours(numbers.data()));
  auto copied = numbers;
  CHECK(copied == numbers && copied.data() != numbers.data());
  CHECK(copied.get_allocator() == numbers.get_allocator());
  auto moved = std::move(copied);
  CHECK(moved == numbers);
  copied = {1, 2, 3}; // what was moved from can be used again
  CHECK(copied.size() == 3 && is_ours(copied.data()));
  std::swap(copied, moved);
  CHECK(copied == numbers && moved.size() == 3);
  numbers.clear();
  numbers.shrink_to_fit();

  std::list<std::string, Allocator<std::string>> words{Allocator<std::string>(allocator)};
  for (int i = 0; i < 1000; i++) words.push_front(std::to_string(i));
  words.sort();
  CHECK(words.size() == 1000 && words.front() == "0" && words.back() == "999");
  CHECK(is_ours(&words.front()));
  words.remove_if([](const std::string &word) { return word.size() < 3; });
  CHECK(words.size() == 900);

  using pair = std::pair<const int, std::string>;
  std::map<int, std::string, std::less<int>, Allocator<pair>> map{
      Allocator<pair>(allocator)};
  for (int i = 0; i < 2000; i++) map[i * 7919 % 2000] = std::to_string(i);
  CHECK(map.size() == 2000 && map.begin()->first == 0);
  CHECK(is_ours(&*map.begin()));
  for (int i = 0; i < 2000; i += 2) map.erase(i);
  CHECK(map.size() == 1000 && map.count(2) == 0 && map.count(3) == 1);

  std::unordered_map<int, std::string, std::hash<int>, std::equal_to<int>,
                     Allocator<pair>>
      table{Allocator<pair>(allocator)};
  for (int i = 0; i < 5000; i++) table.emplace(i, std::string(std::size_t(i % 50), 'x'));
  CHECK(table.size() == 5000 && table.at(149).size() == 49);
  CHECK(is_ours(&*table.begin()));
  table.rehash(20000);
  CHECK(table.at(4999).size() == 49);

  std::set<int, std::less<int>, Allocator<int>> set(allocator);
  for (int i = 0; i < 1000; i++) set.insert(i % 100);
  CHECK(set.size() == 100);

  using text = std::basic_string<char, std::char_traits<char>, Allocator<char>>;
  text string{Allocator<char>(allocator)};
  for (int i = 0; i < 1000; i++) string += "some text ";
  CHECK(string.size() == 10000 && string.substr(5, 4) == "text");
  CHECK(is_ours(string.data()));

  std::vector<wide<char>, Allocator<wide<char>>> wides{Allocator<wide<char>>(allocator)};
  for (int i = 0; i < 100; i++) wides.push_back({char(i)});
  CHECK(is_aligned(wides.data(), 256) && wides[99].value == 99);
  CHECK(is_ours(wides.data()));
}

template <template <class> class Allocator> void use_allocator(Allocator<int> allocator) {
  using traits = std::allocator_traits<Allocator<int>>;
  static_assert(std::is_same<typename traits::value_type, int>::value, "");
  static_assert(std::is_same<typename traits::pointer, int *>::value, "");
  static_assert(
      std::is_same<typename traits::template rebind_alloc<long>, Allocator<long>>::value,
      "");

  int *p = traits::allocate(allocator, 100);
  CHECK(p != nullptr && is_in_mirt(p) && mi_usable_size(p) >= 100 * sizeof(int));
  traits::construct(allocator, p, 77);
  CHECK(*p == 77);
  traits::destroy(allocator, p);

  const Allocator<long> other(allocator);
  CHECK(other == Allocator<long>(allocator) && !(other != Allocator<long>(allocator)));
  CHECK(allocator == other); // for other types, too: each frees what the other allocated
  Allocator<int> back(other);
  CHECK(back == allocator);
  traits::deallocate(back, p, 100);

  CHECK(traits::select_on_container_copy_construction(allocator) == allocator);
  CHECK(traits::max_size(allocator) == PTRDIFF_MAX / sizeof(int));
  int local = 1;
  CHECK(allocator.address(local) == &local);
  CHECK((throws<std::bad_alloc>([&] { (void)allocator.allocate(SIZE_MAX / 4); })));
  CHECK((throws<std::bad_alloc>([&] { (void)allocator.allocate(too_much / 4); })));
}

void default_heap_allocator() {
  use_containers<mi_stl_allocator>(mi_stl_allocator<int>(), nullptr);
  use_allocator<mi_stl_allocator>(mi_stl_allocator<int>());
  static_assert(std::allocator_traits<mi_stl_allocator<int>>::is_always_equal::value, "");
  static_assert(std::is_empty<mi_stl_allocator<int>>::value, "takes no space");

  // It follows the default heap, and frees whatever heap is the default one then.
  mi_heap_t *heap = mi_heap_new();
  mi_heap_t *before = mi_heap_set_default(heap);
  std::vector<int, mi_stl_allocator<int>> numbers(1000, 5);
  CHECK(mi_heap_of(numbers.data()) == heap);
  mi_heap_set_default(before);
  numbers.resize(100000);
  CHECK(mi_heap_of(numbers.data()) == before && numbers[999] == 5);
  CHECK(live_blocks(heap) == 0);
  mi_heap_delete(heap);
}

void allocator_of_a_given_heap() {
  mi_heap_t *heap = mi_heap_new();
  {
    mi_heap_stl_allocator<int> allocator(heap);
    use_containers<mi_heap_stl_allocator>(allocator, heap);
    use_allocator<mi_heap_stl_allocator>(allocator);
    CHECK(live_blocks(heap) == 0); // all of it was freed
    allocator.collect(true);
    CHECK(allocator != mi_heap_stl_allocator<int>());
  }
  void *p = mi_heap_malloc(heap, 10); // the heap is the program's and still there
  CHECK(live_blocks(heap) == 1);
  mi_free(p);
  mi_heap_delete(heap);
}

void allocator_with_a_heap_of_its_own() {
  mi_collect(true);
  const mi_stats_t before = stats_now();
  {
    mi_heap_stl_allocator<int> allocator;
    CHECK(stats_now().heaps.current == before.heaps.current + 1);
    int *p = allocator.allocate(1);
    mi_heap_t *heap = mi_heap_of(p);
    CHECK(heap != mi_heap_get_default());
    allocator.deallocate(p, 1);
    use_containers<mi_heap_stl_allocator>(allocator, heap);
    use_allocator<mi_heap_stl_allocator>(allocator);
    mi_heap_stl_allocator<char> copy(allocator);
    CHECK(stats_now().heaps.current == before.heaps.current + 1);
    const mi_heap_stl_allocator<int> other;
    CHECK(!(allocator == other) && allocator != other);
  }
  CHECK(stats_now().heaps.current == before.heaps.current);

  // The heap goes with the last copy, which may be the one in a container.
  auto *numbers = new std::vector<int, mi_heap_stl_allocator<int>>(1000);
  CHECK(stats_now().heaps.current == before.heaps.current + 1);
  {
    auto copy = *numbers;
    delete numbers;
    CHECK(stats_now().heaps.current == before.heaps.current + 1);
    copy.resize(50000);
  }
  CHECK(stats_now().heaps.current == before.heaps.current);

  // Assigning brings the other heap along.
  std::vector<int, mi_heap_stl_allocator<int>> a(100, 1), b(200, 2);
  CHECK(a.get_allocator() != b.get_allocator());
  a = b;
  CHECK(a == b && a.get_allocator() == b.get_allocator());
  std::vector<int, mi_heap_stl_allocator<int>> c(300, 3);
  c = std::move(b);
  CHECK(c == a && c.get_allocator() == a.get_allocator());
}

void allocator_that_destroys() {
  mi_collect(true);
  const mi_stats_t before = stats_now();
  {
    mi_heap_destroy_stl_allocator<int> allocator;
    int *p = allocator.allocate(10);
    mi_heap_t *heap = mi_heap_of(p);
    allocator.deallocate(p, 10);
    CHECK(live_blocks(heap) == 1); // freed with the heap only
    use_containers<mi_heap_destroy_stl_allocator>(allocator, heap);
    use_allocator<mi_heap_destroy_stl_allocator>(allocator);
    CHECK(live_blocks(heap) > 5000);
    CHECK(stats_now().pages.current > before.pages.current);
    allocator.collect(true);
  }
  CHECK(stats_now().heaps.current == before.heaps.current);
  mi_collect(true);
  CHECK(stats_now().pages.current == before.pages.current);

  mi_heap_t *heap = mi_heap_new();
  {
    mi_heap_destroy_stl_allocator<int> allocator(heap);
    use_containers<mi_heap_destroy_stl_allocator>(allocator, heap);
  }
  CHECK(live_blocks(heap) > 5000); // the program's heap is not destroyed
  mi_heap_destroy(heap);
}

// ---- new and delete ----

unsigned objects_alive;

struct counted {
  counted() { objects_alive++; }
  ~counted() { objects_alive--; }
  char bytes[40];
};

struct thrower {
  thrower() { throw 42; }
  char bytes[40];
};

// What compilers cannot look through, or they leave allocations out.
void *volatile escaped;

template <class T> T *escape(T *p) {
  escaped = const_cast<void *>(static_cast<const volatile void *>(p));
  return p;
}

void operators() {
  mi_heap_t *heap = mi_heap_get_default();
  const std::size_t before = live_blocks(heap);
  int *number = escape(new int(5));
  CHECK(is_in_mirt(number) && *number == 5 && live_blocks(heap) == before + 1);
  delete number;
  counted *array = escape(new counted[100]);
  CHECK(is_in_mirt(array) && objects_alive == 100);
  delete[] array;
  CHECK(objects_alive == 0 && live_blocks(heap) == before);

  number = escape(new (std::nothrow) int[10]);
  CHECK(is_in_mirt(number));
  delete[] number;
  wide<int> *one = escape(new wide<int>), *many = escape(new wide<int>[3]);
  CHECK(is_in_mirt(one) && is_aligned(one, 256) && is_aligned(many, 256));
  delete one;
  delete[] many;
  one = escape(new (std::nothrow) wide<int>);
  CHECK(is_aligned(one, 256));
  delete one;
  delete escape(static_cast<int *>(nullptr));
  CHECK(throws<int>([] { escape(new thrower); })); // frees what it had taken
  CHECK(throws<int>([] { escape(new (std::nothrow) thrower[2]); }));
  CHECK(live_blocks(heap) == before);

  // All forms, as a compiler might call them.
  const std::align_val_t alignment{128};
  void *p = ::operator new(0), *q = ::operator new(0);
  CHECK(p != nullptr && q != nullptr && p != q);
  ::operator delete(p);
  ::operator delete(q, std::size_t(0));
  p = ::operator new[](100);
  ::operator delete[](p, std::size_t(100));
  p = ::operator new(100, std::nothrow);
  ::operator delete(p, std::nothrow);
  p = ::operator new[](100, std::nothrow);
  ::operator delete[](p, std::nothrow);
  p = ::operator new(100, alignment);
  CHECK(is_aligned(p, 128));
  ::operator delete(p, alignment);
  p = ::operator new(100, alignment);
  ::operator delete(p, std::size_t(100), alignment);
  p = ::operator new[](100, alignment);
  CHECK(is_aligned(p, 128));
  ::operator delete[](p, alignment);
  p = ::operator new[](100, alignment);
  ::operator delete[](p, std::size_t(100), alignment);
  p = ::operator new(100, alignment, std::nothrow);
  CHECK(is_aligned(p, 128));
  ::operator delete(p, alignment, std::nothrow);
  p = ::operator new[](100, alignment, std::nothrow);
  CHECK(is_aligned(p, 128));
  ::operator delete[](p, alignment, std::nothrow);
  CHECK(live_blocks(heap) == before);

  // The library's containers use the operators.
  std::vector<int> numbers(1000);
  std::string text(1000, 'x');
  auto shared = std::make_shared<counted>();
  std::function<int()> function = [=] { return int(numbers.size()); };
  CHECK(is_in_mirt(numbers.data()) && is_in_mirt(text.data()) &&
        is_in_mirt(shared.get()));
  CHECK(function() == 1000);
}

// ---- when memory is short ----

unsigned handler_calls;

struct handler_gave_up {};

void throw_at_third_call() {
  if (++handler_calls == 3) throw handler_gave_up();
}

void leave_at_third_call() {
  if (++handler_calls == 3) std::set_new_handler(nullptr);
}

template <class Action> void check_insists(Action action, int line) {
  std::set_new_handler(nullptr);
  check(throws<std::bad_alloc>(action), "throws without a handler", line);
  // The handler is called until it leaves, or throws something of its own.
  handler_calls = 0;
  std::set_new_handler(leave_at_third_call);
  check(throws<std::bad_alloc>(action) && handler_calls == 3, "calls its handler", line);
  handler_calls = 0;
  std::set_new_handler(throw_at_third_call);
  check(throws<handler_gave_up>(action) && handler_calls == 3, "lets it throw", line);
  std::set_new_handler(nullptr);
}

template <class Action> void check_overflow(Action action, int line) {
  handler_calls = 0;
  std::set_new_handler(throw_at_third_call);
  check(throws<std::bad_alloc>(action), "throws when the size overflows", line);
  check(handler_calls == 0, "does not ask the handler", line);
  std::set_new_handler(nullptr);
}

#define CHECK_INSISTS(expression) check_insists([&] { escape(expression); }, __LINE__)
#define CHECK_OVERFLOW(expression) check_overflow([&] { escape(expression); }, __LINE__)

void memory_is_short() {
  const std::size_t huge = too_much;
  mi_heap_t *heap = mi_heap_new();
  CHECK_INSISTS(::operator new(huge));
  CHECK_INSISTS(::operator new[](huge));
  CHECK_INSISTS(::operator new(huge, std::align_val_t(64)));
  CHECK_INSISTS(::operator new[](huge, std::align_val_t(64)));
  CHECK_INSISTS(mi_new(huge));
  CHECK_INSISTS(mi_new_aligned(huge, 64));
  CHECK_INSISTS(mi_new_n(huge / 16, 16));
  CHECK_INSISTS(mi_heap_alloc_new(heap, huge));
  CHECK_INSISTS(mi_heap_alloc_new_n(heap, huge / 16, 16));
  CHECK_INSISTS(mi_stl_allocator<char>().allocate(huge));
  CHECK_INSISTS(mi_heap_stl_allocator<char>(heap).allocate(huge));
  CHECK_INSISTS(mi_heap_destroy_stl_allocator<char>(heap).allocate(huge));
  CHECK_OVERFLOW(mi_new_n(huge, 16));
  CHECK_OVERFLOW(mi_heap_alloc_new_n(heap, 16, huge));
  CHECK_OVERFLOW(mi_stl_allocator<int>().allocate(huge));

  char *p = static_cast<char *>(mi_new(100));
  std::strcpy(p, "still here");
  CHECK_INSISTS(mi_new_realloc(p, huge));
  CHECK_INSISTS(mi_new_reallocn(p, huge / 16, 16));
  CHECK_OVERFLOW(mi_new_reallocn(p, huge, 16));
  CHECK(std::strcmp(p, "still here") == 0);
  p = static_cast<char *>(mi_new_realloc(p, 10000));
  p = static_cast<char *>(mi_new_reallocn(p, 30, 1000));
  CHECK(std::strcmp(p, "still here") == 0 && mi_usable_size(p) >= 30000);
  mi_free(p);
  mi_heap_delete(heap);

  // Those that may fail call the handler, too, and then return nothing.
  handler_calls = 0;
  std::set_new_handler(leave_at_third_call);
  errno = 0;
  CHECK(mi_new_nothrow(huge) == nullptr && errno == ENOMEM && handler_calls == 3);
  handler_calls = 0;
  std::set_new_handler(leave_at_third_call);
  CHECK(mi_new_aligned_nothrow(huge, 64) == nullptr && handler_calls == 3);
  handler_calls = 0;
  std::set_new_handler(leave_at_third_call);
  CHECK(::operator new(huge, std::nothrow) == nullptr &&handler_calls == 3);
  handler_calls = 0;
  std::set_new_handler(throw_at_third_call); // what it throws does not come out
  CHECK(::operator new[](huge, std::align_val_t(64), std::nothrow) == nullptr);
  CHECK(handler_calls == 3);
  std::set_new_handler(nullptr);
  CHECK(::operator new[](huge, std::nothrow) == nullptr);

  // A bad alignment is no lack of memory.
  errno = 0;
  CHECK(mi_new_aligned(10, no_alignment) == nullptr && errno == EINVAL);
  errno = 0;
  CHECK(mi_new_aligned_nothrow(10, no_alignment) == nullptr && errno == EINVAL);
}

// A heap whose arena is full, and a handler that knows what can go.
std::vector<void *> reserve;

void free_from_reserve() {
  handler_calls++;
  if (reserve.empty()) throw handler_gave_up();
  mi_free(reserve.back());
  reserve.pop_back();
}

void handler_finds_memory() {
  const std::size_t size = 1 << 20;
  mi_arena_id_t arena = 0;
  CHECK(mi_reserve_os_memory_ex(16 * size, false, false, true, &arena) == 0);
  mi_heap_t *heap = mi_heap_new_in_arena(arena);
  for (void *p; (p = mi_heap_malloc(heap, size)) != nullptr;) reserve.push_back(p);
  CHECK(reserve.size() > 8);
  handler_calls = 0;
  std::set_new_handler(free_from_reserve);
  const std::size_t had = reserve.size();
  void *p = mi_heap_alloc_new(heap, size);
  CHECK(mi_heap_of(p) == heap && handler_calls >= 1 &&
        reserve.size() == had - handler_calls);
  void *q = mi_heap_stl_allocator<char>(heap).allocate(size);
  CHECK(mi_heap_of(q) == heap && reserve.size() == had - handler_calls);
  std::set_new_handler(nullptr);
  mi_free(p);
  mi_free(q);
  for (void *block : reserve) mi_free(block);
  reserve.clear();
  mi_heap_delete(heap);
}

// ---- threads ----

void threads_exchange_containers() {
  using numbers = std::vector<int, mi_stl_allocator<int>>;
  std::vector<std::list<numbers, mi_stl_allocator<numbers>>> made(4);
  std::vector<std::thread> threads;
  for (std::size_t i = 0; i < made.size(); i++) {
    threads.emplace_back([&made, i] {
      for (int j = 0; j < 500; j++) made[i].emplace_back(std::size_t(j), j);
    });
  }
  for (std::thread &thread : threads) thread.join();
  threads.clear();
  // Each frees what another one made, which has ended.
  std::vector<long> sums(made.size());
  for (std::size_t i = 0; i < made.size(); i++) {
    threads.emplace_back([&made, &sums, i] {
      auto &list = made[(i + 1) % made.size()];
      for (const numbers &each : list)
        sums[i] += std::accumulate(each.begin(), each.end(), 0L);
      list.clear();
    });
  }
  for (std::thread &thread : threads) thread.join();
  for (const long sum : sums) CHECK(sum == 41541750); // of all squares below 500
}

// A part of the program that ends in an exception has failed, but the others go on.
template <class Part> void run(Part part, int line) {
  bool done = false;
  try {
    part();
    done = true;
  } catch (...) {
  }
  std::set_new_handler(nullptr);
  check(done, "no exception", line);
}

} // namespace

int main() {
  run(default_heap_allocator, __LINE__);
  run(allocator_of_a_given_heap, __LINE__);
  run(allocator_with_a_heap_of_its_own, __LINE__);
  run(allocator_that_destroys, __LINE__);
  run(operators, __LINE__);
  run(memory_is_short, __LINE__);
  run(handler_finds_memory, __LINE__);
  run(threads_exchange_containers, __LINE__);
  std::printf("%u checks, %u failures\n", checks, failures);
  return failures == 0 ? 0 : 1;
}
