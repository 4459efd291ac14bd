// containers.cpp - one container of integers: built, looked up, walked, dropped.
//
// usage: containers map|list|table std|heap|refs COUNT
// Prints the bytes of a node, the milliseconds of each phase, the peak of resident memory, and
// a sum of all values.
#include <mirt.hpp>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <list>
#include <map>
#include <type_traits>
#include <unordered_map>

namespace {

std::size_t node_size; // the largest thing that was allocated alone

// An allocator that remembers what is allocated one by one.
template <class Allocator> struct watching : Allocator {
  using value_type = typename std::allocator_traits<Allocator>::value_type;
  using Allocator::Allocator;
  template <class U> struct rebind {
    using other =
        watching<typename std::allocator_traits<Allocator>::template rebind_alloc<U>>;
  };
  watching(const Allocator &other) : Allocator(other) {}
  template <class Other>
  watching(const watching<Other> &other) : Allocator(static_cast<const Other &>(other)) {}
  auto allocate(std::size_t count) {
    if (count == 1 && sizeof(value_type) > node_size) node_size = sizeof(value_type);
    return Allocator::allocate(count);
  }
};

struct my_cage {};

double now() {
  return std::chrono::duration<double, std::milli>(
             std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

long peak_kib() {
  long peak = 0;
  char line[256];
  std::FILE *file = std::fopen("/proc/self/status", "r");
  while (file != nullptr && std::fgets(line, sizeof line, file) != nullptr) {
    std::sscanf(line, "VmHWM: %ld", &peak);
  }
  if (file != nullptr) std::fclose(file);
  return peak;
}

// Each number below count once.
int nth(int i, int count) { return static_cast<int>(std::int64_t(i) * 7368787 % count); }

template <class Map, class Drop> int run_map(Map &map, int count, Drop drop) {
  const double start = now();
  for (int i = 0; i < count; i++) map.emplace(nth(i, count), i);
  const double built = now();
  long sum = 0;
  for (int i = 0; i < count; i += 2) sum += map.find(nth(i, count))->first;
  const double found = now();
  for (const auto &item : map) sum += item.second;
  const double walked = now();
  const long peak = peak_kib();
  drop();
  std::printf("%zu %.1f %.1f %.1f %.1f %.1f %ld\n", node_size, built - start,
              found - built, walked - found, now() - walked,
              static_cast<double>(peak) / 1024, sum);
  return 0;
}

template <class List, class Drop> int run_list(List &list, int count, Drop drop) {
  const double start = now();
  for (int i = 0; i < count; i++) list.push_back(nth(i, count));
  const double built = now();
  long sum = 0;
  for (int round = 0; round < 3; round++) {
    for (int item : list) sum += item;
  }
  const double found = now();
  list.sort();
  const double walked = now();
  const long peak = peak_kib();
  drop();
  std::printf("%zu %.1f %.1f %.1f %.1f %.1f %ld\n", node_size, built - start,
              found - built, walked - found, now() - walked,
              static_cast<double>(peak) / 1024, sum);
  return 0;
}

template <class Allocator>
using map_of = std::map<int, int, std::less<int>, watching<Allocator>>;
template <class Allocator>
using table_of =
    std::unordered_map<int, int, std::hash<int>, std::equal_to<int>, watching<Allocator>>;
template <class Allocator> using list_of = std::list<int, watching<Allocator>>;

template <class Container>
int run(Container &container, int count, void (*drop)(void *), void *what) {
  const auto dropping = [&] { drop(what); };
  if constexpr (std::is_same<typename Container::value_type, int>::value) {
    return run_list(container, count, dropping);
  } else {
    return run_map(container, count, dropping);
  }
}

// The container, and how it is dropped: by its destructor, or by the end of the heap.
template <template <class> class Container, class Value>
int choose(const char *how, int count) {
  if (std::strcmp(how, "std") == 0) {
    auto *container = new Container<std::allocator<Value>>;
    return run(
        *container, count, [](void *p) { delete static_cast<decltype(container)>(p); },
        container);
  }
  if (std::strcmp(how, "heap") == 0) {
    auto *heap = new mirt::heap;
    using container_type = Container<mi_heap_stl_allocator<Value>>;
    auto container = heap->make<container_type>(
        watching<mi_heap_stl_allocator<Value>>(heap->pointers<Value>()));
    return run(
        *container.release(), count, [](void *p) { delete static_cast<mirt::heap *>(p); },
        heap);
  }
  if (std::strcmp(how, "refs") != 0) return 2;
  using allocator = mirt::ref_allocator<Value, my_cage>;
  static mirt::cage<my_cage> cage;
  auto *heap = new mirt::heap(cage);
  auto container =
      heap->make<Container<allocator>>(watching<allocator>(allocator(heap->get())));
  return run(
      *container.release(), count, [](void *p) { delete static_cast<mirt::heap *>(p); },
      heap);
}

} // namespace

int main(int argc, char **argv) {
  const int count = argc == 4 ? std::atoi(argv[3]) : 0;
  int code = 2;
  using pair = std::pair<const int, int>;
  if (count > 0 && std::strcmp(argv[1], "map") == 0)
    code = choose<map_of, pair>(argv[2], count);
  if (count > 0 && std::strcmp(argv[1], "table") == 0) {
    code = choose<table_of, pair>(argv[2], count);
  }
  if (count > 0 && std::strcmp(argv[1], "list") == 0)
    code = choose<list_of, int>(argv[2], count);
  if (code == 2)
    std::fprintf(stderr, "usage: %s map|list|table std|heap|refs COUNT\n", argv[0]);
  return code;
}
