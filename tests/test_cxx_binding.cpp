// test_cxx_binding.cpp - the binding of C++: references as pointers, containers of them beside
// the same with std::allocator, heaps, cages that are too small, runtimes with types, roots,
// constructors that throw, destructors as finalizers, and threads.
//
// Prints how many checks there were and how many failed.
#include <mirt.hpp>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdint>
#include <cstdio>
#include <functional>
#include <list>
#include <map>
#include <memory>
#include <random>
#include <set>
#include <stdexcept>
#include <string>
#include <thread>
#include <unordered_map>
#include <vector>

// Are pointers of allocators stored in nodes as they are?
#if defined(_LIBCPP_VERSION) || (defined(_GLIBCXX_RELEASE) && _GLIBCXX_RELEASE >= 15)
#define HAS_NODES 1
#else
#define HAS_NODES 0
#endif

namespace {

unsigned checks, failures;

void check(bool condition, const char *text, int line) {
  checks++;
  if (condition) return;
  failures++;
  std::printf("test_cxx_binding.cpp:%d: failed: %s\n", line, text);
}

#define CHECK(condition) check((condition), #condition, __LINE__)

template <class Exception, class F> bool throws(F f) {
  try {
    f();
  } catch (const Exception &) {
    return true;
  }
  return false;
}

std::atomic<unsigned> misuses; // reported errors, but for want of memory

void count_misuse(int code, void *) {
  if (code != ENOMEM) misuses++;
}
void say_nothing(const char *, void *) {}

struct first_cage {};
struct second_cage {};
struct wide_cage {
  static constexpr unsigned shift = 3;
};

template <class T> using ref = mirt::ref<T, first_cage>;
template <class T> using allocator = mirt::ref_allocator<T, first_cage>;

// ---- references ----

struct base {
  int a = 1;
};
struct other_base {
  int b = 2;
};
struct derived : base, other_base {
  int c = 3;
};

static_assert(sizeof(ref<int>) == 4 && sizeof(ref<void>) == 4, "");
static_assert(std::is_trivially_copyable<ref<int>>::value, "");
static_assert(std::is_convertible<ref<int>, ref<const int>>::value, "");
static_assert(std::is_convertible<ref<int>, ref<void>>::value, "");
static_assert(std::is_convertible<ref<derived>, ref<base>>::value, "");
static_assert(!std::is_convertible<ref<const int>, ref<int>>::value, "");
static_assert(!std::is_convertible<ref<void>, ref<int>>::value, "");
static_assert(!std::is_constructible<ref<int>, ref<const int>>::value, "");
static_assert(!std::is_convertible<ref<int>, mirt::ref<int, second_cage>>::value, "");
static_assert(!std::is_convertible<ref<int>, int *>::value, "");
static_assert(std::is_same<std::pointer_traits<ref<int>>::rebind<char>, ref<char>>::value,
              "");
static_assert(std::is_same<std::pointer_traits<ref<int>>::element_type, int>::value, "");

void references() {
  mirt::cage<first_cage> cage;
  mirt::heap heap(cage);
  int *const numbers = static_cast<int *>(mi_heap_malloc(heap.get(), 100 * sizeof(int)));
  for (int i = 0; i < 100; i++) numbers[i] = i;
  const ref<int> first(numbers), end = first + 100;
  CHECK(end - first == 100 && first - end == -100);
  CHECK(first < end && end > first && first <= first && first != end);
  CHECK(*(first + 7) == 7 && first[8] == 8 && *(9 + first) == 9 && *(end - 1) == 99);
  ref<int> i = first;
  CHECK(*i++ == 0 && *i == 1 && *++i == 2 && *i-- == 2 && *--i == 0);
  i += 50;
  i -= 10;
  CHECK(*i == 40 && i.get() == numbers + 40 && static_cast<int *>(i) == numbers + 40);
  CHECK(ref<int>::from_bits(i.bits()) == i);
  CHECK(std::pointer_traits<ref<int>>::pointer_to(numbers[3]) == first + 3);
  const ref<const int> constant = i;
  CHECK(*constant == 40 && ref<int>(ref<void>(i)) == i);
  std::sort(first, end, std::greater<int>());
  CHECK(numbers[0] == 99 && std::is_sorted(first, end, std::greater<int>()));

  const ref<int> null, also(nullptr), from_pointer(static_cast<int *>(nullptr));
  CHECK(null == nullptr && nullptr == also && from_pointer == null && !null &&
        first != nullptr);
  CHECK(null.get() == nullptr && ref<void>(null) == nullptr);

  derived *const object = ::new (mi_heap_malloc(heap.get(), sizeof(derived))) derived;
  const ref<derived> d(object);
  const ref<other_base> b = d;
  CHECK(b->b == 2 && b.get() == object && ref<derived>(b) == d && ref<base>(d)->a == 1);
  CHECK(ref<other_base>(ref<derived>(nullptr)) == nullptr);

  CHECK(throws<std::system_error>([] { mirt::cage<first_cage> again; }));
  mirt::cage<second_cage> second(1 << 20);
  CHECK(second.get() != cage.get());
}

// ---- containers ----

// The same operations on two containers.
template <class Map> std::vector<std::pair<int, int>> use_map(Map &map, unsigned seed) {
  std::mt19937 dice(seed);
  for (int i = 0; i < 20000; i++) {
    const int key = static_cast<int>(dice() % 3000);
    switch (dice() % 4) {
      case 0: map.erase(key); break;
      case 1: map[key] += i; break;
      default: map.emplace(key, i);
    }
  }
  return {map.begin(), map.end()};
}

template <class List> std::vector<int> use_list(List &list, unsigned seed) {
  std::mt19937 dice(seed);
  for (int i = 0; i < 5000; i++) {
    switch (dice() % 6) {
      case 0:
        if (!list.empty()) list.pop_front();
        break;
      case 1: list.push_back(i); break;
      case 2: list.push_front(-i); break;
      case 3:
        list.insert(std::next(list.begin(), static_cast<int>(dice() % (list.size() + 1))),
                    i);
        break;
      case 4:
        if (!list.empty()) list.erase(list.begin());
        break;
      default: list.push_back(static_cast<int>(dice() % 100));
    }
  }
  list.sort();
  list.reverse();
  return {list.begin(), list.end()};
}

template <class Vector> std::vector<int> use_vector(Vector &vector, unsigned seed) {
  std::mt19937 dice(seed);
  for (int i = 0; i < 5000; i++) {
    const auto at = vector.begin() + static_cast<int>(dice() % (vector.size() + 1));
    switch (dice() % 5) {
      case 0:
        if (!vector.empty()) vector.pop_back();
        break;
      case 1: vector.emplace(at, i); break;
      case 2:
        if (at != vector.end()) vector.erase(at);
        break;
      default: vector.push_back(i);
    }
  }
  vector.shrink_to_fit();
  std::sort(vector.begin(), vector.end());
  return {vector.begin(), vector.end()};
}

void containers() {
  mirt::cage<first_cage> cage;
  mirt::heap heap(cage);
  for (unsigned seed = 1; seed <= 3; seed++) {
    std::vector<int, allocator<int>> vector(heap.refs<int, first_cage>());
    std::vector<int> usual;
    CHECK(use_vector(vector, seed) == use_vector(usual, seed));
    auto copy = vector;
    auto moved = std::move(vector);
    CHECK(copy == moved);
    std::vector<std::vector<int, allocator<int>>> nested(10, moved);
    CHECK(nested[9] == copy);

    std::map<int, int, std::less<int>, mi_heap_stl_allocator<std::pair<const int, int>>>
        plain(heap.pointers<std::pair<const int, int>>());
    std::map<int, int> usual_map;
    CHECK(use_map(plain, seed) == use_map(usual_map, seed));
#if HAS_NODES
    using pair = std::pair<const int, int>;
    const allocator<pair> pairs = heap.refs<pair, first_cage>();
    auto map = heap.make<std::map<int, int, std::less<int>, allocator<pair>>>(pairs);
    std::map<int, int> usual_again;
    CHECK(use_map(*map, seed) == use_map(usual_again, seed));
    auto table =
        heap.make<std::unordered_map<int, int, std::hash<int>, std::equal_to<int>,
                                     allocator<pair>>>(pairs);
    auto found = use_map(*table, seed);
    std::sort(found.begin(), found.end());
    CHECK(found ==
          (std::vector<std::pair<int, int>>(usual_again.begin(), usual_again.end())));
    auto list = heap.make<std::list<int, allocator<int>>>(heap.refs<int, first_cage>());
    std::list<int> usual_list;
    CHECK(use_list(*list, seed) == use_list(usual_list, seed));
    auto set = heap.make<
        std::multiset<std::string, std::less<std::string>, allocator<std::string>>>(
        heap.refs<std::string, first_cage>());
    for (int i = 0; i < 1000; i++) set->insert(std::to_string(i * 7 % 500));
    CHECK(set->count("77") == 2 && set->size() == 1000);
    CHECK(mirt_ref_encodable(cage.get(), &*map->begin()));
#endif
  }
  struct alignas(64) line {
    char bytes[64];
  };
  std::vector<line, allocator<line>> lines(100, line{}, heap.refs<line, first_cage>());
  CHECK(reinterpret_cast<std::uintptr_t>(lines.data()) % 64 == 0);
  const mirt::heap other(cage);
  const auto numbers = heap.refs<int, first_cage>();
  CHECK(numbers.max_size() == std::size_t(1) << 30);
  CHECK(throws<std::bad_array_new_length>([&] {
    auto allocating = numbers;
    (void)allocating.allocate((std::size_t(1) << 30) + 1);
  }));
  const std::vector<int, allocator<int>> none(numbers);
  CHECK(none.data() == nullptr);
  CHECK(std::pointer_traits<ref<int>>::to_address(nullptr) == nullptr);
  mirt::heap_ptr<std::string> text = heap.make<std::string>("text");
  text = heap.make<std::string>();
  CHECK(text->empty() && *heap.make<const int>(1) == 1);
  text.reset();
  CHECK((heap.refs<int, first_cage>() == heap.refs<char, first_cage>()));
  CHECK((heap.refs<int, first_cage>() != other.refs<char, first_cage>()));
  mirt_stats_t stats;
  CHECK(mirt_stats_heap(heap.get(), &stats) && stats.live_blocks == 1);
#if HAS_NODES
  using pair = std::pair<const int, int>;
  auto big = heap.make<std::map<int, int, std::less<int>, allocator<pair>>>(
      heap.refs<pair, first_cage>());
  for (int i = 0; i < 1000000; i++) big->emplace_hint(big->end(), i, i);
  CHECK(big->size() == 1000000 && (*big->rbegin()).second == 999999);
  (void)big.release(); // goes with the heap
#endif
}

// A cage with larger units, for what is aligned.
void wide() {
  mirt::cage<wide_cage> cage;
  mirt::heap heap(cage);
  std::vector<double, mirt::ref_allocator<double, wide_cage>> numbers(
      heap.refs<double, wide_cage>());
  for (int i = 0; i < 1000; i++) numbers.push_back(i);
  CHECK(numbers[999] == 999 && sizeof(mirt::ref<double, wide_cage>) == 4);
}

void short_of_memory() {
  mirt::cage<first_cage> cage(1 << 20);
  mirt::heap heap(cage);
  std::vector<std::vector<int, allocator<int>>> kept;
  CHECK(throws<std::bad_alloc>([&] {
    for (;;) {
      kept.emplace_back(heap.refs<int, first_cage>());
      kept.back().resize(1000, static_cast<int>(kept.size()));
    }
  }));
  CHECK(kept.size() > 100);
  bool whole = true;
  for (std::size_t i = 0; i + 1 < kept.size(); i++) {
    whole &= kept[i].size() == 1000 && kept[i][999] == static_cast<int>(i + 1);
  }
  CHECK(whole);
  CHECK(throws<std::bad_alloc>([&] { (void)heap.make<std::array<char, 2 << 20>>(); }));
  kept.clear();
  std::vector<int, allocator<int>> again(heap.refs<int, first_cage>());
  again.resize(100000, 1);
  CHECK(again[99999] == 1);
}

// ---- runtimes ----

struct node {
  ref<node> left, right;
  int value;
  explicit node(int v = 0) : value(v) {}
};

struct counted {
  static inline int living = 0;
  ref<counted> next;
  counted() { living++; }
  explicit counted(int n) : counted() {
    if (n < 0) throw std::runtime_error("n < 0");
  }
  ~counted() { living--; }
};

struct plain_node {
  plain_node *next;
  long values[3];
};

void collecting() {
  mirt::runtime<first_cage> runtime;
  CHECK(throws<std::system_error>([] { mirt::runtime<first_cage> again; }));
  mirt::mutator<first_cage> mutator(runtime);
  const mirt::type<node, first_cage> nodes(runtime, "node", &node::left, &node::right);
  {
    mirt::root<node, first_cage> list(mutator);
    for (int i = 0; i < 10000; i++) {
      node *const fresh = mirt::make(mutator, nodes, i);
      fresh->left = list;
      list = fresh;
      (void)mirt::make(mutator, nodes, -1); // forgotten
    }
    const mirt_gc_stats_t stats = runtime.collect();
    CHECK(stats.live_objects == 10000 && stats.freed_objects == 10000);
    int sum = 0, length = 0;
    for (ref<node> n = list; n; n = n->left, length++) sum += n->value;
    CHECK(length == 10000 && sum == 9999 * 5000);
    const mirt::root<node, first_cage> copy = list;
    list = list->left;
    list = nullptr;
    CHECK(runtime.collect().live_objects == 10000 && copy->value == 9999);
    std::vector<mirt::root<node, first_cage>> many; // roots that move
    for (int i = 0; i < 100; i++)
      many.emplace_back(mutator, mirt::make(mutator, nodes, i));
    {
      const mirt::root<const node, first_cage> same = many[0];
      const ref<const node> seen = many[0];
      CHECK(same == many[0] && same != many[1] && same != nullptr && seen == same);
      CHECK(copy != nullptr && list == nullptr && nullptr == list);
    }
    many.erase(many.begin(), many.begin() + 50);
    CHECK(runtime.collect().live_objects == 10050 && many[0]->value == 50);
  }
  CHECK(runtime.collect().live_objects == 0 && nodes.objects() == 0);
}

// References that do not change, and arrays of them, in a class and in its base.
struct leaf {
  long value;
};

struct pair_base {
  const ref<leaf> first;
};

struct branch : pair_base {
  int before;
  ref<leaf> grid[2][2];
  const ref<leaf> fixed[2];
  branch(ref<leaf> a, ref<leaf> b) : pair_base{a}, before(0), grid{}, fixed{b, a} {}
};

void kinds_of_members() {
  mirt::runtime<first_cage> runtime;
  mirt::mutator<first_cage> mutator(runtime);
  mirt_type_options_t options = {};
  options.alignment = 64;
  const mirt::type<leaf, first_cage> leaves(runtime, options, "leaf");
  const mirt::type<branch, first_cage> branches(runtime, "branch", &branch::grid,
                                                &branch::fixed, &branch::first);
  const auto leaf_of = [&](long value) {
    return mirt::root<leaf, first_cage>(mutator, mirt::make(mutator, leaves, leaf{value}));
  };
  mirt::root<branch, first_cage> tree(mutator);
  {
    const auto a = leaf_of(1), b = leaf_of(2);
    CHECK(reinterpret_cast<std::uintptr_t>(b.get()) % 64 == 0);
    tree = mirt::make(mutator, branches, ref<leaf>(a), ref<leaf>(b));
  }
  for (int i = 0; i < 4; i++) tree->grid[i / 2][i % 2] = ref<leaf>(leaf_of(10 + i).get());
  (void)leaf_of(100);
  CHECK(runtime.collect().live_objects == 7 && leaves.objects() == 6);
  CHECK(tree->first->value == 1 && tree->fixed[0]->value == 2 && tree->fixed[1]->value == 1);
  CHECK(tree->grid[0][0]->value == 10 && tree->grid[1][1]->value == 13);
  tree->grid[1][0] = nullptr;
  CHECK(runtime.collect().live_objects == 6);
}

void constructors_and_destructors() {
  counted::living = 0;
  mirt::runtime<first_cage> runtime;
  mirt::mutator<first_cage> mutator(runtime);
  const mirt::type<counted, first_cage> type(runtime, "counted", &counted::next);
  mirt::root<counted, first_cage> kept(mutator, mirt::make(mutator, type));
  kept->next = ref<counted>(mirt::make(mutator, type, 1));
  for (int i = 0; i < 100; i++) (void)mirt::make(mutator, type);
  CHECK(throws<std::runtime_error>([&] { (void)mirt::make(mutator, type, -1); }));
  CHECK(counted::living == 102); // it was constructed so far, and destroyed
  CHECK(type.objects() == 102);
  CHECK(runtime.collect().finalized == 100 && counted::living == 2);
  runtime.collect();
  CHECK(type.objects() == 2);
  kept = nullptr;
  runtime.collect();
  CHECK(counted::living == 0);
}

// A constructor that collects: the object is a root meanwhile.
struct collects {
  ref<collects> part;
  collects() = default;
  collects(mirt::runtime<first_cage> &runtime, mirt::mutator<first_cage> &mutator,
           const mirt::type<collects, first_cage> &type)
      : part(mirt::make(mutator, type)) {
    runtime.collect();
  }
};

void constructors_that_collect() {
  mirt::runtime<first_cage> runtime;
  mirt::mutator<first_cage> mutator(runtime);
  const mirt::type<collects, first_cage> type(runtime, "collects", &collects::part);
  const mirt::root<collects, first_cage> object(
      mutator, mirt::make(mutator, type, runtime, mutator, type));
  CHECK(type.objects() == 2 && object->part);
}

void without_a_cage() {
  mirt::runtime<mirt::no_cage> runtime({}, 1 << 30), beside({}, 1 << 30);
  mirt::mutator<mirt::no_cage> mutator(runtime);
  const mirt::type<plain_node, mirt::no_cage> type(runtime, "plain", &plain_node::next);
  mirt::root<plain_node, mirt::no_cage> list(mutator);
  for (int i = 0; i < 1000; i++) {
    plain_node *const fresh = mirt::make(mutator, type);
    fresh->next = list.get();
    fresh->values[2] = i;
    list = fresh;
  }
  CHECK(runtime.collect().live_objects == 1000 && list->next->values[2] == 998);
  CHECK(beside.collect().live_objects == 0);
  const mirt_runtime_options_t options = {};
  mirt_runtime_options_t tight = options;
  tight.hard_limit = 100000;
  mirt::runtime<mirt::no_cage> limited(tight);
  mirt::mutator<mirt::no_cage> other(limited);
  const mirt::type<plain_node, mirt::no_cage> small(limited, "small", &plain_node::next);
  CHECK(throws<std::bad_alloc>([&] {
    for (;;) (void)mirt::make(other, small);
  }));
  CHECK(mirt::make_or_null(other, small) == nullptr);
  CHECK(misuses == 0);
  std::thread([&] { // not that of the mutator
    CHECK(throws<std::system_error>([&] { (void)mirt::make(other, small); }));
  }).join();
  CHECK(misuses.exchange(0) == 1);
  limited.collect();
  CHECK(mirt::make_or_null(other, small) != nullptr);
}

void threads() {
  mirt::runtime<first_cage> runtime;
  const mirt::type<node, first_cage> nodes(runtime, "node", &node::left, &node::right);
  std::atomic<int> wrong{0};
  {
    std::vector<std::thread> all;
    for (int t = 0; t < 3; t++) {
      all.emplace_back([&runtime, &nodes, &wrong] {
        mirt::mutator<first_cage> mutator(runtime);
        mirt::root<node, first_cage> list(mutator);
        for (int i = 0; i < 20000; i++) {
          node *const fresh = mirt::make(mutator, nodes, i);
          fresh->right = list;
          list = fresh;
        }
        int expected = 20000;
        for (ref<node> n = list; n; n = n->right) wrong += n->value != --expected;
      });
    }
    for (std::thread &thread : all) thread.join();
  }
  CHECK(wrong == 0 && nodes.objects() == 60000);
  CHECK(runtime.collect().freed_objects == 60000);
}

} // namespace

int main() {
  mi_register_output(say_nothing, nullptr);
  mi_register_error(count_misuse, nullptr);
  references();
  containers();
  wide();
  short_of_memory();
  collecting();
  kinds_of_members();
  constructors_and_destructors();
  constructors_that_collect();
  without_a_cage();
  threads();
  CHECK(misuses == 0);
  std::printf("%u checks, %u failed\n", checks, failures);
  return failures == 0 ? 0 : 1;
}
