// test_cxx.cpp - mirt in a C++ program: allocators and memory resources for containers, the
// operators new and delete, and what the functions for C++ do when memory is short.
//
// Built with the installed headers only. Prints how many checks there were and how many
// failed. Each part of the program has failed, too, when it has misused mirt, by freeing a
// block twice for example.

#include <mimalloc-new-delete.h>
#include <mirt.h>
#include <mirt/pmr.hpp>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <deque>
#include <forward_list>
#include <functional>
#include <future>
#include <iterator>
#include <list>
#include <map>
#include <memory>
#include <new>
#include <numeric>
#include <random>
#include <scoped_allocator>
#include <set>
#include <stdexcept>
#include <string>
#include <thread>
#include <type_traits>
#include <unordered_map>
#include <unordered_set>
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

// Errors that the library has reported, but for want of memory.
std::atomic<unsigned> misuses;

void count_misuse(int code, void *) {
  if (code != ENOMEM) misuses++;
}

void say_nothing(const char *, void *) {}

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

// Blocks whose heaps were deleted.
std::size_t abandoned_blocks() {
  std::size_t count = 0;
  mi_option_enable(mi_option_visit_abandoned);
  mi_abandoned_visit_blocks(
      mi_subproc_main(), -1, true,
      [](const mi_heap_t *, const mi_heap_area_t *, void *block, std::size_t, void *arg) {
        if (block != nullptr) ++*static_cast<std::size_t *>(arg);
        return true;
      },
      &count);
  return count;
}

// What the program has of the library. Two of these differ when something was left behind.
struct holdings {
  std::int64_t heaps, pages;
  std::size_t abandoned;
  bool operator==(const holdings &other) const {
    return heaps == other.heaps && pages == other.pages && abandoned == other.abandoned;
  }
};

holdings holdings_now() {
  mi_collect(true);
  const mi_stats_t stats = stats_now();
  return {stats.heaps.current, stats.pages.current, abandoned_blocks()};
}

// ---- containers, with each of the allocators ----

// All standard containers that take an allocator.
template <template <class> class Allocator> struct with {
  template <class T> using vector = std::vector<T, Allocator<T>>;
  template <class T> using deque = std::deque<T, Allocator<T>>;
  template <class T> using list = std::list<T, Allocator<T>>;
  template <class T> using forward_list = std::forward_list<T, Allocator<T>>;
  template <class K> using set = std::set<K, std::less<K>, Allocator<K>>;
  template <class K> using multiset = std::multiset<K, std::less<K>, Allocator<K>>;
  template <class K>
  using unordered_set =
      std::unordered_set<K, std::hash<K>, std::equal_to<K>, Allocator<K>>;
  template <class K>
  using unordered_multiset =
      std::unordered_multiset<K, std::hash<K>, std::equal_to<K>, Allocator<K>>;
  template <class K, class V>
  using map = std::map<K, V, std::less<K>, Allocator<std::pair<const K, V>>>;
  template <class K, class V>
  using multimap = std::multimap<K, V, std::less<K>, Allocator<std::pair<const K, V>>>;
  template <class K, class V>
  using unordered_map = std::unordered_map<K, V, std::hash<K>, std::equal_to<K>,
                                           Allocator<std::pair<const K, V>>>;
  template <class K, class V>
  using unordered_multimap = std::unordered_multimap<K, V, std::hash<K>, std::equal_to<K>,
                                                     Allocator<std::pair<const K, V>>>;
  using string = std::basic_string<char, std::char_traits<char>, Allocator<char>>;
};

// An allocator, and the heap that it takes blocks from; does it give them back?
template <template <class> class Allocator> struct place {
  Allocator<int> allocator;
  mi_heap_t *heap;
  bool frees = true;

  bool has(const void *p) const { return mi_heap_of(p) == heap; }
  template <class Container> bool has_all(const Container &container) const {
    return std::all_of(container.begin(), container.end(),
                       [this](const auto &each) { return has(std::addressof(each)); });
  }
};

template <class Container> auto first_of(const Container &container) {
  return std::addressof(*container.begin());
}

template <class T> T value_of(int i, T *) { return T(i); }
char value_of(int i, char *) { return char('a' + i % 26); }
template <class K, class V>
std::pair<const K, V> value_of(int i, std::pair<const K, V> *) {
  return {K(i), V(i * i)};
}

// Numbers that repeat from run to run.
std::mt19937 dice_new() { return std::mt19937(20260101); }

template <class Container> void fill(Container &container, int count) {
  using value = typename Container::value_type;
  for (int i = 0; i < count; i++)
    container.insert(container.end(), value_of(i, static_cast<value *>(nullptr)));
}

template <class T, class Allocator>
void fill(std::forward_list<T, Allocator> &list, int count) {
  for (int i = 0; i < count; i++) list.push_front(T(i));
}

// The elements, with std::allocator, in an order that a table's buckets have no part in.
template <class T> struct plain { using type = T; };
template <class K, class V> struct plain<std::pair<const K, V>> {
  using type = std::pair<K, V>;
};

template <class Container> auto elements(const Container &container) {
  using value = typename plain<typename Container::value_type>::type;
  std::vector<value> all(container.begin(), container.end());
  std::sort(all.begin(), all.end());
  return all;
}

template <class Sequence> void insert_at(Sequence &sequence, std::size_t i, int value) {
  sequence.insert(std::next(sequence.begin(), std::ptrdiff_t(i)), value);
}
template <class Sequence> void erase_at(Sequence &sequence, std::size_t i) {
  sequence.erase(std::next(sequence.begin(), std::ptrdiff_t(i)));
}
template <class T, class Allocator>
void insert_at(std::forward_list<T, Allocator> &list, std::size_t i, int value) {
  list.insert_after(std::next(list.before_begin(), std::ptrdiff_t(i)), value);
}
template <class T, class Allocator>
void erase_at(std::forward_list<T, Allocator> &list, std::size_t i) {
  list.erase_after(std::next(list.before_begin(), std::ptrdiff_t(i)));
}

// Insert and erase here and there, beside a vector of the standard allocator.
template <class Sequence, class Place> void change_sequence(const Place &here) {
  Sequence sequence(here.allocator);
  std::vector<int> model;
  auto dice = dice_new();
  for (int i = 0; i < 1500; i++) {
    const std::size_t at = dice() % (model.size() + 1);
    if (at == model.size() || dice() % 3 != 0) {
      insert_at(sequence, at, i);
      insert_at(model, at, i);
    } else {
      erase_at(sequence, at);
      erase_at(model, at);
    }
  }
  CHECK(model.size() > 200);
  CHECK(std::equal(sequence.begin(), sequence.end(), model.begin(), model.end()));
  CHECK(here.has_all(sequence));
}

// The same with keys and values, beside a multimap of the standard allocator.
template <class Map, class Place> void change_map(const Place &here, bool is_multi) {
  Map map{typename Map::allocator_type(here.allocator)};
  std::multimap<int, std::string> model;
  auto dice = dice_new();
  for (int i = 0; i < 3000; i++) {
    const int key = int(dice() % 500);
    if (dice() % 3 == 0) {
      CHECK(map.erase(key) == model.erase(key));
    } else if (is_multi || model.count(key) == 0) {
      std::string text(dice() % 100, char('a' + i % 26));
      map.insert({key, text});
      model.insert({key, text});
    } else {
      map.insert({key, "not inserted, as the key is there"});
    }
  }
  CHECK(model.size() > 200 && elements(map) == elements(model));
  CHECK(here.has_all(map));
}

// Whose memory a container has after copies, moves and swaps between two places.
template <class Container, class Place>
void change_hands(const Place &here, const Place &there) {
  using allocator = typename Container::allocator_type;
  using traits = std::allocator_traits<allocator>;
  constexpr bool follows = traits::propagate_on_container_move_assignment::value;
  static_assert(traits::propagate_on_container_copy_assignment::value == follows &&
                    traits::propagate_on_container_swap::value == follows,
                "all or none");
  const allocator a(here.allocator), b(there.allocator);
  const int many = 200; // too many for a string to keep them inside

  Container original(a);
  fill(original, many);
  const auto all = elements(original);
  CHECK(all.size() == std::size_t(many) && here.has_all(original));
  CHECK(original.get_allocator() == a);

  // Copies: as the allocator says, or to the place asked for.
  {
    const Container copy(original), asked(original, b);
    if constexpr (follows) {
      CHECK(copy.get_allocator() == a && here.has_all(copy));
    } else {
      CHECK(copy.get_allocator() == allocator());
    }
    CHECK(elements(copy) == all && first_of(copy) != first_of(original));
    CHECK(elements(asked) == all && asked.get_allocator() == b && there.has_all(asked));
    Container assigned(b);
    fill(assigned, many / 2);
    assigned = original;
    CHECK(elements(assigned) == all);
    CHECK(assigned.get_allocator() == (follows ? a : b));
    CHECK((follows ? here : there).has_all(assigned));
  }

  // Moves take the memory along. What was moved from is usable and where it was.
  const void *first = first_of(original);
  Container moved(std::move(original));
  CHECK(first_of(moved) == first && elements(moved) == all && moved.get_allocator() == a);
  CHECK(original.get_allocator() == a);
  original.clear();
  fill(original, many);
  CHECK(elements(original) == all && here.has_all(original));
  original = std::move(moved);
  CHECK(first_of(original) == first && elements(original) == all);

  // To another place: memory and allocator, or the elements one by one.
  Container other(b);
  fill(other, many / 2);
  other = std::move(original);
  CHECK((first_of(other) == first) == (follows || a == b));
  CHECK(elements(other) == all && other.get_allocator() == (follows ? a : b));
  CHECK((follows ? here : there).has_all(other));
  Container asked(std::move(other), b);
  CHECK((first_of(asked) == first) == (a == b));
  CHECK(elements(asked) == all && asked.get_allocator() == b && there.has_all(asked));

  // Swaps change the memory and move nothing.
  Container left(a), right(follows ? b : a);
  fill(left, many);
  fill(right, many / 2);
  const void *first_left = first_of(left), *first_right = first_of(right);
  swap(left, right);
  CHECK(first_of(left) == first_right && first_of(right) == first_left);
  CHECK(left.get_allocator() == (follows ? b : a) && right.get_allocator() == a);
  CHECK(elements(right) == all && elements(left).size() == std::size_t(many / 2));
}

// ---- elements that ask for something ----

template <std::size_t Alignment> struct alignas(Alignment) aligned_to { int value; };

template <class Wide, template <class> class Allocator>
void keep_aligned(const place<Allocator> &here) {
  using containers = with<Allocator>;
  const Allocator<Wide> wides(here.allocator);
  const Allocator<std::pair<const int, Wide>> pairs(here.allocator);
  typename containers::template vector<Wide> vector(wides);
  typename containers::template deque<Wide> deque(wides);
  typename containers::template list<Wide> list(wides);
  typename containers::template map<int, Wide> map(pairs);
  typename containers::template unordered_map<int, Wide> table(pairs);
  for (int i = 0; i < 100; i++) {
    vector.push_back({i});
    deque.push_back({i});
    list.push_back({i});
    map.insert({i, {i}});
    table.insert({i, {i}});
  }
  int expected = 0;
  const auto is_right = [&](const Wide &each) {
    return is_aligned(&each, alignof(Wide)) && here.has(&each) &&
           each.value == expected++ % 100;
  };
  CHECK(std::all_of(vector.begin(), vector.end(), is_right));
  CHECK(std::all_of(deque.begin(), deque.end(), is_right));
  CHECK(std::all_of(list.begin(), list.end(), is_right));
  for (int i = 0; i < 100; i++)
    CHECK(is_right(map.at(i)) && is_right(table.at(expected = i)));
}

unsigned objects_alive;

struct counted {
  counted() { objects_alive++; }
  counted(const counted &) { objects_alive++; }
  ~counted() { objects_alive--; }
  counted &operator=(const counted &) = default;
  char bytes[40];
};

unsigned copies_left;

struct reluctant : counted {
  reluctant() = default;
  reluctant(const reluctant &other) : counted(other) {
    if (copies_left-- == 0) throw 42;
  }
};

// Whichever element refuses to be copied, a copy that fails leaves nothing behind.
template <class Container, class Place> void fail_to_copy(const Place &here) {
  Container source(here.allocator);
  source.resize(10);
  const std::size_t blocks = live_blocks(here.heap);
  for (unsigned i = 0; i < 10; i++) {
    copies_left = i;
    CHECK((throws<int>([&] { Container copy(source, here.allocator); })));
    CHECK(objects_alive == 10);
    if (here.frees) CHECK(live_blocks(here.heap) == blocks);
  }
  copies_left = 10;
  Container copy(source, here.allocator);
  CHECK(objects_alive == 20 && here.has_all(copy));
}

// Blocks that are not those of containers.
template <class Place> void share(const Place &here) {
  const std::size_t blocks = live_blocks(here.heap);
  {
    auto shared = std::allocate_shared<counted>(here.allocator);
    CHECK(here.has(shared.get()) && objects_alive == 1);
    CHECK(live_blocks(here.heap) == blocks + 1);
    std::weak_ptr<counted> weak = shared;
    shared.reset();
    CHECK(weak.expired() && objects_alive == 0);
    CHECK(live_blocks(here.heap) == blocks + 1); // the counts of weak
    const auto page = std::allocate_shared<aligned_to<4096>>(here.allocator);
    CHECK(here.has(page.get()) && is_aligned(page.get(), 4096));
    const std::shared_ptr<const int> constant =
        std::allocate_shared<int>(here.allocator, 5);
    CHECK(here.has(constant.get()) && *constant == 5);

    std::promise<std::string> promise(std::allocator_arg, here.allocator);
    CHECK(live_blocks(here.heap) > blocks + 3);
    promise.set_value("kept");
    CHECK(promise.get_future().get() == "kept");
  }
  if (here.frees) CHECK(live_blocks(here.heap) == blocks);
}

// Requests that cannot be met change nothing.
template <class Container, class Place> void ask_too_much(const Place &here) {
  Container container(here.allocator);
  fill(container, 200);
  const auto all = elements(container);
  const void *first = first_of(container);
  volatile std::size_t most = container.max_size();
  CHECK((throws<std::bad_alloc>([&] { container.reserve(most); })));
  CHECK((throws<std::length_error>([&] { container.reserve(most + 1); })));
  CHECK(first_of(container) == first && elements(container) == all);
  container.reserve(1000);
  CHECK(elements(container) == all && here.has_all(container));
}

// Containers that become large and small again.
template <template <class> class Allocator> void grow(const place<Allocator> &here) {
  using containers = with<Allocator>;
  typename containers::template vector<int> numbers(here.allocator);
  for (int i = 0; i < 200000; i++) numbers.push_back(i);
  CHECK(std::accumulate(numbers.begin(), numbers.end(), 0L) == 199999L * 200000 / 2);
  CHECK(here.has(&numbers.front()) && here.has(&numbers.back()));
  numbers.resize(10);
  numbers.shrink_to_fit();
  CHECK(numbers.capacity() == 10 && numbers[9] == 9 && here.has(numbers.data()));
  typename containers::template unordered_map<int, std::string> table{
      Allocator<std::pair<const int, std::string>>(here.allocator)};
  for (int i = 0; i < 5000; i++) table.emplace(i, std::string(std::size_t(i % 50), 'x'));
  table.rehash(20000);
  CHECK(table.size() == 5000 && table.at(149).size() == 49 && here.has_all(table));
  typename containers::template vector<bool> bits{Allocator<bool>(here.allocator)};
  for (int i = 0; i < 5000; i++) bits.push_back(i % 3 == 0);
  CHECK(std::count(bits.begin(), bits.end(), true) == 1667);
  typename containers::template list<int> sorted(here.allocator), more(here.allocator);
  auto dice = dice_new();
  for (int i = 0; i < 1000; i++) {
    sorted.push_back(int(dice() % 1000));
    more.push_back(i);
  }
  sorted.sort();
  sorted.merge(more);
  CHECK(sorted.size() == 2000 && more.empty() && here.has_all(sorted));
  CHECK(std::is_sorted(sorted.begin(), sorted.end()));
}

// Texts in vectors in a map, all in the heap of the map.
template <class Map, class Allocator>
void nest(const Allocator &allocator, mi_heap_t *heap) {
  using text = typename Map::key_type;
  using text_allocator = typename text::allocator_type;
  const std::int64_t heaps = stats_now().heaps.current;
  Map map{typename Map::allocator_type(allocator)};
  for (std::size_t i = 0; i < 100; i++) {
    const text key(100, char('a' + i % 26), text_allocator(allocator));
    map[key].emplace_back(i + 50, 'x');
    map[text(key, text_allocator(allocator))].push_back(key);
  }
  CHECK(map.size() == 26 && map.begin()->second.size() == 8);
  for (const auto &each : map) {
    CHECK(mi_heap_of(&each) == heap && mi_heap_of(each.first.data()) == heap);
    CHECK(mi_heap_of(each.second.data()) == heap);
    for (const text &inner : each.second) CHECK(mi_heap_of(inner.data()) == heap);
  }
  const auto copy = Map(map, typename Map::allocator_type(allocator));
  CHECK(copy == map && mi_heap_of(copy.begin()->second.front().data()) == heap);
  CHECK(stats_now().heaps.current == heaps);
}

// With allocators that do not reach into elements by themselves.
template <template <class> class Allocator> struct scoped {
  using text = typename with<Allocator>::string;
  template <class T> using in_scope = std::scoped_allocator_adaptor<Allocator<T>>;
  using texts = std::vector<text, in_scope<text>>;
  using map =
      std::map<text, texts, std::less<text>, in_scope<std::pair<const text, texts>>>;
};

// ---- each allocator ----

// All of the above. Two places, which may be the same.
template <template <class> class Allocator>
void use_containers(const place<Allocator> &here, const place<Allocator> &there) {
  using containers = with<Allocator>;
  using vector = typename containers::template vector<int>;
  using deque = typename containers::template deque<int>;
  using list = typename containers::template list<int>;
  using forward_list = typename containers::template forward_list<int>;
  using set = typename containers::template set<int>;
  using multiset = typename containers::template multiset<int>;
  using unordered_set = typename containers::template unordered_set<int>;
  using unordered_multiset = typename containers::template unordered_multiset<int>;
  using string = typename containers::string;
  const std::size_t blocks = live_blocks(here.heap), others = live_blocks(there.heap);

  change_sequence<vector>(here);
  change_sequence<deque>(here);
  change_sequence<list>(here);
  change_sequence<forward_list>(here);
  change_map<typename containers::template map<int, std::string>>(here, false);
  change_map<typename containers::template multimap<int, std::string>>(here, true);
  change_map<typename containers::template unordered_map<int, std::string>>(here, false);
  change_map<typename containers::template unordered_multimap<int, std::string>>(here,
                                                                                 true);

  change_hands<vector>(here, there);
  change_hands<deque>(here, there);
  change_hands<list>(here, there);
  change_hands<forward_list>(here, there);
  change_hands<set>(here, there);
  change_hands<multiset>(here, there);
  change_hands<unordered_set>(here, there);
  change_hands<unordered_multiset>(here, there);
  change_hands<typename containers::template map<int, long>>(here, there);
  change_hands<typename containers::template multimap<int, long>>(here, there);
  change_hands<typename containers::template unordered_map<int, long>>(here, there);
  change_hands<typename containers::template unordered_multimap<int, long>>(here, there);
  change_hands<string>(here, there);

  keep_aligned<aligned_to<64>>(here);
  keep_aligned<aligned_to<4096>>(here);
  fail_to_copy<typename containers::template vector<reluctant>>(here);
  fail_to_copy<typename containers::template deque<reluctant>>(here);
  fail_to_copy<typename containers::template list<reluctant>>(here);
  fail_to_copy<typename containers::template forward_list<reluctant>>(here);
  share(here);
  ask_too_much<vector>(here);
  ask_too_much<string>(here);

  grow(here);
  if (here.frees) {
    CHECK(live_blocks(here.heap) == blocks && live_blocks(there.heap) == others);
  } else {
    CHECK(live_blocks(here.heap) > blocks + 5000);
  }
}

template <template <class> class Allocator> void use_allocator(Allocator<int> allocator) {
  using own = Allocator<int>;
  using traits = std::allocator_traits<own>;
  static_assert(std::is_same<typename traits::value_type, int>::value, "");
  static_assert(std::is_same<typename traits::pointer, int *>::value, "");
  static_assert(
      std::is_same<typename traits::template rebind_alloc<long>, Allocator<long>>::value,
      "");
  static_assert(std::is_same<typename traits::template rebind_traits<long>,
                             std::allocator_traits<Allocator<long>>>::value,
                "");
  static_assert(std::is_nothrow_copy_constructible<own>::value &&
                    std::is_nothrow_move_constructible<own>::value &&
                    std::is_nothrow_copy_assignable<own>::value &&
                    std::is_nothrow_move_assignable<own>::value &&
                    std::is_nothrow_constructible<own, const Allocator<long> &>::value,
                "the standard asks that these throw nothing");
  static_assert(std::is_convertible<Allocator<long>, own>::value, "");
  static_assert(traits::propagate_on_container_swap::value, "");

  int *p = traits::allocate(allocator, 100);
  CHECK(p != nullptr && is_in_mirt(p) && mi_usable_size(p) >= 100 * sizeof(int));
  traits::construct(allocator, p, 77);
  CHECK(*p == 77);
  traits::destroy(allocator, p);
  int *q = traits::allocate(allocator, 0), *r = traits::allocate(allocator, 0, p);
  CHECK(q != nullptr && r != nullptr && q != r);
  traits::deallocate(allocator, q, 0);
  traits::deallocate(allocator, r, 0);

  const Allocator<long> other(allocator);
  CHECK(other == Allocator<long>(allocator) && !(other != Allocator<long>(allocator)));
  CHECK(allocator == other && other == allocator); // each frees what the other allocated
  Allocator<int> back(other);
  CHECK(back == allocator);
  traits::deallocate(back, p, 100);
  Allocator<int> taken(std::move(back));
  CHECK(taken == allocator && back == allocator); // as it was, says the standard
  back = std::move(taken);
  CHECK(taken == allocator && back == allocator);

  CHECK(traits::select_on_container_copy_construction(allocator) == allocator);
  CHECK(traits::max_size(allocator) == PTRDIFF_MAX / sizeof(int));
  int local = 1;
  CHECK(allocator.address(local) == &local);
  volatile std::size_t most = traits::max_size(allocator);
  const auto take_most = [&] { (void)allocator.allocate(most); };
  const auto take_more = [&] { (void)allocator.allocate(most + 1); };
  const auto take_too_much = [&] { (void)allocator.allocate(too_much); };
  CHECK(throws<std::bad_alloc>(take_most));
  CHECK(!throws<std::bad_array_new_length>(take_most));
  CHECK(throws<std::bad_array_new_length>(take_more));
  CHECK(throws<std::bad_array_new_length>(take_too_much));
}

void default_heap_allocator() {
  using allocator = mi_stl_allocator<int>;
  const place<mi_stl_allocator> here{allocator(), mi_heap_get_default()};
  use_containers<mi_stl_allocator>(here, here);
  use_allocator<mi_stl_allocator>(allocator());
  nest<scoped<mi_stl_allocator>::map>(allocator(), here.heap);
  static_assert(std::allocator_traits<allocator>::is_always_equal::value, "");
  static_assert(std::is_empty<allocator>::value, "takes no space");
  static_assert(std::is_nothrow_default_constructible<allocator>::value, "");

  // It follows the default heap, and frees whatever heap is the default one then.
  mi_heap_t *heap = mi_heap_new();
  mi_heap_t *before = mi_heap_set_default(heap);
  std::vector<int, allocator> numbers(1000, 5);
  CHECK(mi_heap_of(numbers.data()) == heap);
  mi_heap_set_default(before);
  numbers.resize(100000);
  CHECK(mi_heap_of(numbers.data()) == before && numbers[999] == 5);
  CHECK(live_blocks(heap) == 0);
  mi_heap_delete(heap);
}

void allocator_of_a_given_heap() {
  mi_heap_t *heap = mi_heap_new(), *second = mi_heap_new();
  {
    mi_heap_stl_allocator<int> allocator(heap);
    static_assert(!std::allocator_traits<decltype(allocator)>::is_always_equal::value,
                  "");
    use_containers<mi_heap_stl_allocator>({allocator, heap}, {second, second});
    use_allocator<mi_heap_stl_allocator>(allocator);
    nest<scoped<mi_heap_stl_allocator>::map>(allocator, heap);
    CHECK(live_blocks(heap) == 0 && live_blocks(second) == 0); // all of it was freed
    allocator.collect(true);
    CHECK(allocator == mi_heap_stl_allocator<char>(heap));
    CHECK(allocator != mi_heap_stl_allocator<int>(second));
    CHECK(allocator != mi_heap_stl_allocator<int>());
    mi_heap_stl_allocator<int> assigned(second);
    assigned = allocator;
    CHECK(assigned == allocator);
  }
  void *p = mi_heap_malloc(heap, 10); // the heap is the program's and still there
  CHECK(live_blocks(heap) == 1);
  mi_free(p);
  mi_heap_delete(heap);
  mi_heap_delete(second);
}

void allocator_with_a_heap_of_its_own() {
  const holdings before = holdings_now();
  {
    mi_heap_stl_allocator<int> allocator, second;
    CHECK(stats_now().heaps.current == before.heaps + 2);
    int *p = allocator.allocate(1), *q = second.allocate(1);
    mi_heap_t *heap = mi_heap_of(p), *second_heap = mi_heap_of(q);
    CHECK(heap != mi_heap_get_default() && heap != second_heap);
    allocator.deallocate(p, 1);
    second.deallocate(q, 1);
    use_containers<mi_heap_stl_allocator>({allocator, heap}, {second, second_heap});
    use_allocator<mi_heap_stl_allocator>(allocator);
    CHECK(live_blocks(heap) == 0 && live_blocks(second_heap) == 0);
    mi_heap_stl_allocator<char> copy(allocator);
    CHECK(stats_now().heaps.current == before.heaps + 2);
    CHECK(!(allocator == second) && allocator != second);
    second = allocator; // the last copy of the second heap's
    CHECK(stats_now().heaps.current == before.heaps + 1);
  }
  CHECK(holdings_now() == before);
}

void allocator_that_destroys() {
  const holdings before = holdings_now();
  {
    mi_heap_destroy_stl_allocator<int> allocator, second;
    int *p = allocator.allocate(10), *q = second.allocate(10);
    mi_heap_t *heap = mi_heap_of(p), *second_heap = mi_heap_of(q);
    allocator.deallocate(p, 10);
    CHECK(live_blocks(heap) == 1); // freed with the heap only
    use_containers<mi_heap_destroy_stl_allocator>({allocator, heap, false},
                                                  {second, second_heap, false});
    use_allocator<mi_heap_destroy_stl_allocator>(allocator);
    nest<scoped<mi_heap_destroy_stl_allocator>::map>(allocator, heap);
    CHECK(live_blocks(heap) > 5000);
    CHECK(stats_now().pages.current > before.pages);
    allocator.collect(true);
  }
  CHECK(holdings_now() == before);

  mi_heap_t *heap = mi_heap_new();
  {
    mi_heap_destroy_stl_allocator<int> allocator(heap);
    use_containers<mi_heap_destroy_stl_allocator>({allocator, heap, false},
                                                  {allocator, heap, false});
  }
  CHECK(live_blocks(heap) > 5000); // the program's heap is not destroyed
  mi_heap_destroy(heap);
  CHECK(holdings_now() == before);
}

// The heap goes with the last copy of its allocator, which is often the container's, and
// nothing is left then, in any heap.
template <class Container> void end_with_last_copy() {
  const holdings before = holdings_now();
  auto *container = new Container{typename Container::allocator_type()};
  CHECK(stats_now().heaps.current == before.heaps + 1);
  fill(*container, 300);
  mi_heap_t *heap = mi_heap_of(first_of(*container));
  CHECK(heap != mi_heap_get_default() && live_blocks(heap) > 0);
  {
    Container copy = *container;
    const auto all = elements(*container);
    delete container;
    CHECK(stats_now().heaps.current == before.heaps + 1);
    CHECK(elements(copy) == all);
    fill(copy, 300);
    CHECK(mi_heap_of(first_of(copy)) == heap);
  }
  CHECK(holdings_now() == before);
}

template <template <class> class Allocator> void end_with_last_copies() {
  using containers = with<Allocator>;
  end_with_last_copy<typename containers::template vector<int>>();
  end_with_last_copy<typename containers::template deque<int>>();
  end_with_last_copy<typename containers::template list<int>>();
  end_with_last_copy<typename containers::template forward_list<int>>();
  end_with_last_copy<typename containers::template set<int>>();
  end_with_last_copy<typename containers::template multiset<int>>();
  end_with_last_copy<typename containers::template unordered_set<int>>();
  end_with_last_copy<typename containers::template map<int, int>>();
  end_with_last_copy<typename containers::template multimap<int, int>>();
  end_with_last_copy<typename containers::template unordered_map<int, int>>();
  end_with_last_copy<typename containers::string>();

  // Other things that keep a copy of an allocator.
  const holdings before = holdings_now();
  {
    std::shared_ptr<counted> shared;
    std::weak_ptr<counted> weak;
    std::future<int> future;
    std::function<int()> function;
    {
      shared = std::allocate_shared<counted>(Allocator<int>());
      CHECK(stats_now().heaps.current == before.heaps + 1);
      weak = shared;
      std::promise<int> promise(std::allocator_arg, Allocator<int>());
      CHECK(stats_now().heaps.current == before.heaps + 2);
      future = promise.get_future();
      promise.set_value(7);
      const typename containers::template vector<int> numbers(1000, 8);
      CHECK(stats_now().heaps.current == before.heaps + 3);
      function = [numbers] { return numbers.back(); };
    }
    CHECK(stats_now().heaps.current == before.heaps + 3);
    const auto function_copy = function;
    function = nullptr;
    CHECK(future.get() == 7 && function_copy() == 8);
    shared.reset(); // what weak has is still in the heap
    CHECK(objects_alive == 0 && stats_now().heaps.current == before.heaps + 2);
    weak.reset();
    CHECK(stats_now().heaps.current == before.heaps + 1);
  }
  CHECK(holdings_now() == before);
}

void last_copies() {
  end_with_last_copies<mi_heap_stl_allocator>();
  end_with_last_copies<mi_heap_destroy_stl_allocator>();
}

template <class T> struct alignas(256) wide { T value; };

// ---- new and delete ----

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
  check(throws<std::bad_alloc>(action), "throws what no memory would help", line);
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
  mirt::heap_resource resource(heap);
  mirt::own_heap_resource own;
  CHECK_INSISTS(mirt::default_heap_resource()->allocate(huge));
  CHECK_INSISTS(mirt::default_heap_resource()->allocate(huge, 64));
  CHECK_INSISTS(resource.allocate(huge));
  CHECK_INSISTS(resource.allocate(huge, 64));
  CHECK_INSISTS(own.allocate(huge));
  CHECK_INSISTS(own.allocate(huge, 64));
  CHECK_OVERFLOW(mi_new_n(huge, 16));
  CHECK_OVERFLOW(mi_heap_alloc_new_n(heap, 16, huge));
  CHECK_OVERFLOW(mi_stl_allocator<int>().allocate(huge));
  CHECK_OVERFLOW(std::pmr::polymorphic_allocator<int>(&own).allocate(huge));
  // An alignment that is none: asking the handler would never end.
  CHECK_OVERFLOW(mirt::default_heap_resource()->allocate(10, no_alignment));
  CHECK_OVERFLOW(resource.allocate(10, no_alignment));
  CHECK_OVERFLOW(own.allocate(10, no_alignment));

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
  CHECK(misuses.exchange(0) == 2);
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

// ---- memory resources ----

using pmr_map = std::pmr::map<std::pmr::string, std::pmr::vector<std::pmr::string>>;

template <class Resource> constexpr bool stays_where_it_is() {
  return !std::is_copy_constructible<Resource>::value &&
         !std::is_move_constructible<Resource>::value &&
         !std::is_copy_assignable<Resource>::value &&
         !std::is_move_assignable<Resource>::value &&
         std::is_nothrow_destructible<Resource>::value &&
         std::has_virtual_destructor<Resource>::value &&
         std::is_base_of<std::pmr::memory_resource, Resource>::value;
}

static_assert(stays_where_it_is<mirt::heap_resource>(), "");
static_assert(stays_where_it_is<mirt::own_heap_resource>(), "");
static_assert(!std::is_convertible<mi_heap_t *, mirt::heap_resource>::value, "");
static_assert(!std::is_convertible<int, mirt::own_heap_resource>::value, "");
static_assert(std::is_nothrow_constructible<mirt::heap_resource, mi_heap_t *>::value, "");
static_assert(noexcept(mirt::default_heap_resource()), "");
static_assert(noexcept(std::declval<mirt::own_heap_resource &>().release()), "");

place<std::pmr::polymorphic_allocator> place_of(std::pmr::memory_resource &resource,
                                                mi_heap_t *heap) {
  return {&resource, heap};
}

void default_resource() {
  std::pmr::memory_resource *resource = mirt::default_heap_resource();
  CHECK(resource == mirt::default_heap_resource());
  mi_heap_t *before = mi_heap_get_default();
  use_containers(place_of(*resource, before), place_of(*resource, before));
  nest<pmr_map>(std::pmr::polymorphic_allocator<int>(resource), before);

  // It follows the default heap, and frees whatever heap is the default one then.
  mi_heap_t *heap = mi_heap_new();
  mi_heap_set_default(heap);
  void *p = resource->allocate(1000), *q = resource->allocate(1000, 4096);
  CHECK(mi_heap_of(p) == heap && mi_heap_of(q) == heap && live_blocks(heap) == 2);
  mi_heap_set_default(before);
  resource->deallocate(p, 1000);
  resource->deallocate(q, 1000, 4096);
  CHECK(live_blocks(heap) == 0);
  mi_heap_delete(heap);

  // For all containers that ask for no other.
  const std::size_t blocks = live_blocks(before);
  std::pmr::memory_resource *const earlier = std::pmr::set_default_resource(resource);
  {
    const std::pmr::vector<int> numbers(100, 1);
    CHECK(numbers.get_allocator().resource() == resource);
    CHECK(mi_heap_of(numbers.data()) == before && live_blocks(before) == blocks + 1);
  }
  std::pmr::set_default_resource(earlier);
  CHECK(live_blocks(before) == blocks);

  // In each thread that thread's heap.
  std::pmr::memory_resource *there = nullptr;
  bool is_own_heap = false;
  std::pmr::list<int> list(resource);
  std::thread([&] {
    there = mirt::default_heap_resource();
    list.push_back(1);
    is_own_heap = mi_heap_of(&list.front()) == mi_heap_get_default();
  }).join();
  CHECK(there == resource && is_own_heap);
  CHECK(mi_heap_of(&list.front()) == nullptr); // whose thread has ended
}

// Made before the default resource is, so destroyed when static objects made later are.
struct late {
  ~late() {
    std::pmr::memory_resource *resource = mirt::default_heap_resource();
    void *p = resource->allocate(100);
    if (!is_in_mirt(p)) std::abort();
    resource->deallocate(p, 100);
  }
} uses_the_default_resource_at_the_end;

void resource_of_a_given_heap() {
  mi_heap_t *heap = mi_heap_new(), *second_heap = mi_heap_new();
  {
    mirt::heap_resource resource(heap), second(second_heap);
    CHECK(resource.heap() == heap);
    use_containers(place_of(resource, heap), place_of(second, second_heap));
    nest<pmr_map>(std::pmr::polymorphic_allocator<int>(&resource), heap);
    CHECK(live_blocks(heap) == 0 && live_blocks(second_heap) == 0);
    (void)resource.allocate(10);
  }
  CHECK(live_blocks(heap) == 1); // the heap is the program's and still there
  mi_heap_destroy(heap);
  mi_heap_delete(second_heap);
}

void resource_with_a_heap_of_its_own() {
  const holdings before = holdings_now();
  {
    mirt::own_heap_resource resource, second;
    CHECK(stats_now().heaps.current == before.heaps + 2);
    CHECK(resource.heap() != second.heap() && resource.heap() != mi_heap_get_default());
    use_containers(place_of(resource, resource.heap()), place_of(second, second.heap()));
    nest<pmr_map>(std::pmr::polymorphic_allocator<int>(&resource), resource.heap());
    CHECK(live_blocks(resource.heap()) == 0 && live_blocks(second.heap()) == 0);
    for (int i = 0; i < 10000; i++) (void)resource.allocate(100); // for the destructor
    CHECK(live_blocks(resource.heap()) == 10000);
  }
  CHECK(holdings_now() == before);

  // Of a kind, also after it has begun anew.
  mi_arena_id_t arena = 0;
  CHECK(mi_reserve_os_memory_ex(1 << 24, false, false, true, &arena) == 0);
  {
    mirt::own_heap_resource resource(7, arena);
    for (int i = 0; i < 2; i++) {
      void *p = resource.allocate(100), *q = resource.allocate(1 << 20);
      CHECK(mirt_tag_of(p) == 7 && mirt_tag_of(q) == 7);
      CHECK(mi_arena_contains(arena, p) && mi_arena_contains(arena, q));
      CHECK(throws<std::bad_alloc>([&] { (void)resource.allocate(1 << 25); }));
      resource.release();
      CHECK(live_blocks(resource.heap()) == 0);
    }
  }
  CHECK(mi_heap_new_in_arena(arena) != nullptr || arena == 0);
}

void resource_that_keeps_blocks() {
  const holdings before = holdings_now();
  std::vector<unsigned char *> blocks;
  {
    mirt::own_heap_resource resource(9, 0, mirt::at_end::keep_blocks);
    for (int i = 0; i < 2; i++) {
      for (int j = 0; j < 1000; j++) {
        blocks.push_back(static_cast<unsigned char *>(resource.allocate(64)));
        std::memset(blocks.back(), int(blocks.size()), 64);
      }
      mirt_stats_t stats; // of heaps before, too, which this one may take over
      CHECK(mirt_stats_tag(9, &stats) && stats.live_blocks == blocks.size());
      resource.release();
    }
    CHECK(live_blocks(resource.heap()) == 0);
    CHECK(holdings_now().heaps == before.heaps + 1);
  }
  CHECK(holdings_now().abandoned == before.abandoned + 2000);
  std::size_t right = 0, count = 0;
  for (const unsigned char *block : blocks) {
    const unsigned char expected = static_cast<unsigned char>(++count);
    right += block[0] == expected && block[63] == expected && mirt_tag_of(block) == 9;
  }
  CHECK(right == 2000);
  std::thread([&] {
    for (void *block : blocks) mi_free(block);
  }).join();
  decltype(blocks)().swap(blocks); // its memory, too
  CHECK(holdings_now() == before);
}

void resource_of_no_heap() {
  // No handler can help with an argument that is wrong.
  handler_calls = 0;
  std::set_new_handler(throw_at_third_call);
  using own = mirt::own_heap_resource;
  CHECK(throws<std::invalid_argument>([] { own resource(-1); }));
  CHECK(throws<std::invalid_argument>([] { own resource(MIRT_TAG_MAX + 1); }));
  CHECK(throws<std::invalid_argument>([] { own resource(0, 4000); }));
  CHECK(handler_calls == 0 && misuses.exchange(0) == 3);
  own resource(MIRT_TAG_MAX);
  CHECK(resource.heap() != nullptr && handler_calls == 0);
  std::set_new_handler(nullptr);
}

void resources_are_equal_to_themselves() {
  mi_heap_t *heap = mi_heap_new();
  mirt::heap_resource given(heap), same_heap(heap);
  auto own = std::make_unique<mirt::own_heap_resource>();
  mirt::own_heap_resource second;
  const std::vector<std::pmr::memory_resource *> all = {mirt::default_heap_resource(),
                                                        std::pmr::new_delete_resource(),
                                                        std::pmr::null_memory_resource(),
                                                        &given,
                                                        &same_heap,
                                                        own.get(),
                                                        &second};
  for (const auto *a : all) {
    for (const auto *b : all) {
      CHECK(a->is_equal(*b) == (a == b) && (*a == *b) == (a == b));
      CHECK((*a != *b) == (a != b));
    }
  }
  using allocator = std::pmr::polymorphic_allocator<int>;
  CHECK(allocator(own.get()) == std::pmr::polymorphic_allocator<long>(own.get()));
  CHECK(allocator(own.get()) != allocator(&second));

  // That is why this vector outlives the heap that its elements have come from.
  std::pmr::vector<int> kept(&second);
  {
    std::pmr::vector<int> filled(1000, 5, own.get());
    kept = std::move(filled);
  }
  own.reset();
  CHECK(mi_heap_of(kept.data()) == second.heap());
  CHECK(std::count(kept.begin(), kept.end(), 5) == 1000);
  mi_heap_delete(heap);
}

// Sizes, alignments, contents, addresses: blocks are apart from each other.
void blocks_of_resources() {
  mi_heap_t *heap = mi_heap_new();
  mirt::heap_resource given(heap);
  mirt::own_heap_resource own;
  const std::size_t sizes[] = {0, 1, 7, 16, 100, 1000, 5000, 70000, 300000};
  struct block {
    unsigned char *bytes;
    std::size_t size, alignment;
    unsigned char mark;
  };
  for (std::pmr::memory_resource *resource :
       {mirt::default_heap_resource(), static_cast<std::pmr::memory_resource *>(&given),
        static_cast<std::pmr::memory_resource *>(&own)}) {
    mi_heap_t *expected = resource == &given ? heap
                          : resource == &own ? own.heap()
                                             : mi_heap_get_default();
    std::vector<block> blocks;
    for (const std::size_t size : sizes) {
      for (std::size_t alignment = 1; alignment <= 1 << 20; alignment *= 4) {
        void *p = resource->allocate(size, alignment);
        CHECK(is_aligned(p, std::max<std::size_t>(alignment, 16)));
        CHECK(mi_heap_of(p) == expected && mi_usable_size(p) >= size);
        const auto mark = static_cast<unsigned char>(blocks.size());
        blocks.push_back({static_cast<unsigned char *>(p), size, alignment, mark});
        std::memset(p, mark, size);
      }
    }
    std::sort(blocks.begin(), blocks.end(), [](const block &a, const block &b) {
      return std::less<unsigned char *>()(a.bytes, b.bytes);
    });
    std::size_t apart = 0, intact = 0;
    for (std::size_t i = 0; i < blocks.size(); i++) {
      const block &each = blocks[i];
      unsigned char *end = each.bytes + std::max<std::size_t>(each.size, 1);
      apart += i + 1 == blocks.size() || end <= blocks[i + 1].bytes;
      intact += std::all_of(each.bytes, each.bytes + each.size,
                            [&](unsigned char byte) { return byte == each.mark; });
    }
    CHECK(apart == blocks.size() && intact == blocks.size());
    for (const block &each : blocks)
      resource->deallocate(each.bytes, each.size, each.alignment);
  }
  CHECK(live_blocks(heap) == 0 && live_blocks(own.heap()) == 0);
  mi_heap_delete(heap);
}

// A world whose objects are never destroyed one by one.
void release_drops_all() {
  const holdings before = holdings_now();
  {
    mirt::own_heap_resource world;
    for (int round = 0; round < 3; round++) {
      std::pmr::polymorphic_allocator<pmr_map> maps(&world);
      pmr_map *map = maps.allocate(1);
      maps.construct(map); // has the resource from its allocator
      for (int i = 0; i < 500; i++) {
        auto &texts = (*map)[std::pmr::string(std::to_string(i % 100) + " of the keys")];
        texts.emplace_back(std::size_t(i), 'x');
      }
      CHECK(map->size() == 100 && map->at("99 of the keys").size() == 5);
      CHECK(map->get_allocator().resource() == &world);
      (void)world.allocate(1 << 20);
      const auto large = static_cast<int *>(world.allocate(100 << 20)); // not of an arena
      large[0] = round;
      CHECK(live_blocks(world.heap()) > 600);
      CHECK(stats_now().pages.current > before.pages + 10);
      world.release();
      CHECK(live_blocks(world.heap()) == 0);
      CHECK(holdings_now().pages == before.pages);
      CHECK(holdings_now().heaps == before.heaps + 1);
    }
    // The default heap may be its heap; what was the default before is not touched.
    mi_heap_set_default(world.heap());
    CHECK(mi_heap_of(escape(new counted)) == world.heap());
    world.release();
    CHECK(mi_heap_get_default() == mi_heap_get_backing());
    objects_alive = 0;
    world.release(); // of nothing
  }
  CHECK(holdings_now() == before);
}

mirt::own_heap_resource *cache;

void drop_cache() {
  handler_calls++;
  cache->release();
}

// The handler drops everything in the very resource that asks for more.
void release_finds_memory() {
  mi_arena_id_t arena = 0;
  CHECK(mi_reserve_os_memory_ex(1 << 24, false, false, true, &arena) == 0);
  mirt::own_heap_resource resource(0, arena);
  cache = &resource;
  handler_calls = 0;
  std::set_new_handler(drop_cache);
  std::size_t count = 0;
  while (handler_calls == 0) {
    CHECK(mi_heap_of(resource.allocate(1 << 20)) == resource.heap());
    count++;
  }
  std::set_new_handler(nullptr);
  CHECK(count > 8 && handler_calls == 1 && live_blocks(resource.heap()) == 1);
}

void pools_over_resources() {
  const holdings before = holdings_now();
  {
    mirt::own_heap_resource resource;
    mi_heap_t *heap = resource.heap();
    const auto use = [&](std::pmr::memory_resource *pool) {
      std::pmr::map<int, std::pmr::string> map(pool);
      auto dice = dice_new();
      for (int i = 0; i < 3000; i++) {
        const int key = int(dice() % 300);
        if (dice() % 3 == 0) {
          map.erase(key);
        } else {
          map[key].assign(std::size_t(key), 'x');
        }
      }
      CHECK(map.size() > 100 && live_blocks(heap) > 0);
      CHECK(mi_heap_of(&*map.begin()) == heap);
      for (const auto &each : map) CHECK(each.second.size() == std::size_t(each.first));
    };
    {
      std::pmr::monotonic_buffer_resource pool(100, &resource);
      use(&pool);
      CHECK(pool.upstream_resource() == &resource && live_blocks(heap) > 1);
      pool.release();
      CHECK(live_blocks(heap) == 0);
      use(&pool);
    }
    CHECK(live_blocks(heap) == 0);
    {
      std::pmr::unsynchronized_pool_resource pool(&resource);
      use(&pool);
      CHECK(live_blocks(heap) > 1);
      pool.release();
      CHECK(live_blocks(heap) == 0);
      use(&pool);
      void *p = pool.allocate(100 << 10, 4096); // larger than a pool's largest
      CHECK(is_aligned(p, 4096) && mi_heap_of(p) == heap);
      pool.deallocate(p, 100 << 10, 4096);
      std::pmr::monotonic_buffer_resource above(&pool);
      use(&above);
    }
    CHECK(live_blocks(heap) == 0);
    {
      std::pmr::synchronized_pool_resource pool(&resource);
      use(&pool);
    }
    CHECK(live_blocks(heap) == 0);
    const auto unused = new std::pmr::unsynchronized_pool_resource(&resource);
    use(unused);
    CHECK(live_blocks(heap) > 1);
    unused->release(); // before the blocks go from under it
    delete unused;
    resource.release();
  }
  CHECK(holdings_now() == before);

  // One pool for several threads takes blocks in any of them.
  std::vector<std::size_t> sizes(4);
  {
    std::pmr::synchronized_pool_resource pool(mirt::default_heap_resource());
    std::vector<std::thread> threads;
    for (std::size_t i = 0; i < sizes.size(); i++) {
      threads.emplace_back([&pool, &sizes, i] {
        std::pmr::unordered_map<int, std::pmr::string> table(&pool);
        for (int j = 0; j < 2000; j++) table[j % 500].assign(std::size_t(j % 100), 'x');
        for (const auto &each : table) sizes[i] += each.second.size();
      });
    }
    for (std::thread &thread : threads) thread.join();
  }
  for (const std::size_t size : sizes) CHECK(size == 24750); // 5 * (0 + 1 + ... + 99)
  decltype(sizes)().swap(sizes);
  CHECK(holdings_now() == before);
}

void resources_and_threads() {
  const holdings before = holdings_now();
  // Others may free what they did not allocate.
  {
    mirt::own_heap_resource resource;
    mi_heap_t *heap = resource.heap();
    pmr_map map(&resource);
    std::pmr::vector<int> numbers(100000, 3, &resource);
    for (int i = 0; i < 2000; i++) {
      map[std::pmr::string(std::to_string(i) + ", which is one of the keys")]
          .emplace_back(std::size_t(i), 'x');
    }
    std::size_t found = 0;
    std::thread([found_there = &found, map_there = std::move(map),
                 numbers_there = std::move(numbers)]() mutable {
      *found_there = map_there.size() + numbers_there.size();
      map_there.clear();
      // Nothing is allocated here: moves leave the memory where it is.
      std::pmr::vector<int> empty(std::move(numbers_there));
    }).join();
    CHECK(found == 102000);
    mi_heap_collect(heap, true);
    CHECK(live_blocks(heap) == 0 && resource.heap() == heap);
    (void)resource.allocate(100); // and the owner goes on
    CHECK(live_blocks(heap) == 1);
  }
  CHECK(holdings_now() == before);

  // A resource for a thread ends with it, before the heaps that are left do.
  std::size_t blocks = 0;
  std::thread([&] {
    thread_local mirt::own_heap_resource resource;
    for (int i = 0; i < 1000; i++) (void)resource.allocate(500);
    blocks = live_blocks(resource.heap());
  }).join();
  CHECK(blocks == 1000 && holdings_now() == before);

  // One that ends in a wrong thread is reported, and its heap ends with its owner.
  std::promise<mirt::own_heap_resource *> made;
  std::promise<void> ended;
  void *p = nullptr;
  std::thread maker([&] {
    auto resource = new mirt::own_heap_resource;
    p = resource->allocate(100);
    made.set_value(resource);
    ended.get_future().wait();
  });
  delete made.get_future().get();
  CHECK(misuses.exchange(0) == 1);
  CHECK(mi_usable_size(p) >= 100 && holdings_now().heaps > before.heaps);
  ended.set_value();
  maker.join();
  CHECK(holdings_now().abandoned == before.abandoned + 1);
  mi_free(p);
}

// A resource goes with its mutator from thread to thread.
void resources_and_mutators() {
  const holdings before = holdings_now();
  mirt_mutator_t *mutator = mirt_mutator_create();
  CHECK(mirt_mutator_bind(mutator) == 0);
  auto resource = std::make_unique<mirt::own_heap_resource>();
  std::pmr::list<int> list(resource.get());
  list.push_back(1);
  CHECK(mirt_mutator_unbind(mutator) == 0);
  bool is_there = false;
  std::thread([&] {
    is_there = mirt_mutator_bind(mutator) == 0;
    list.push_back(2);
    is_there = is_there && mi_heap_of(&list.back()) == resource->heap();
    list.clear();
    is_there = is_there && live_blocks(resource->heap()) == 0;
    resource->release();
    (void)resource->allocate(10);
    resource.reset();
    is_there = is_there && mirt_mutator_unbind(mutator) == 0;
  }).join();
  CHECK(is_there && mirt_mutator_destroy(mutator) == 0);
  CHECK(holdings_now() == before);
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
  check(misuses.exchange(0) == 0, "no error was reported", line);
}

} // namespace

int main() {
  mi_register_error(count_misuse, nullptr);
  mi_register_output(say_nothing, nullptr);
  run(default_heap_allocator, __LINE__);
  run(allocator_of_a_given_heap, __LINE__);
  run(allocator_with_a_heap_of_its_own, __LINE__);
  run(allocator_that_destroys, __LINE__);
  run(last_copies, __LINE__);
  run(operators, __LINE__);
  run(memory_is_short, __LINE__);
  run(handler_finds_memory, __LINE__);
  run(threads_exchange_containers, __LINE__);
  run(default_resource, __LINE__);
  run(resource_of_a_given_heap, __LINE__);
  run(resource_with_a_heap_of_its_own, __LINE__);
  run(resource_that_keeps_blocks, __LINE__);
  run(resource_of_no_heap, __LINE__);
  run(resources_are_equal_to_themselves, __LINE__);
  run(blocks_of_resources, __LINE__);
  run(release_drops_all, __LINE__);
  run(release_finds_memory, __LINE__);
  run(pools_over_resources, __LINE__);
  run(resources_and_threads, __LINE__);
  run(resources_and_mutators, __LINE__);
  std::printf("%u checks, %u failures\n", checks, failures);
  return failures == 0 ? 0 : 1;
}
