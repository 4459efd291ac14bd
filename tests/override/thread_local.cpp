// thread_local.cpp - C++ objects of threads and of the process that allocate when they
// are made, and free, and allocate again, when they end. Exit code 0 if all is well.
#include <atomic>
#include <cstdio>
#include <map>
#include <memory>
#include <new>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

namespace {

std::atomic<unsigned> ended;

struct holder {
  std::map<int, std::string> map;
  holder() {
    for (int i = 0; i < 100; i++) map[i] = std::string(std::size_t(i * 10), 'x');
  }
  ~holder() {
    // A thread's objects may still allocate while they go.
    std::vector<std::string> copies;
    for (const auto &entry : map) copies.push_back(entry.second + "!");
    if (copies.size() == 100 && copies[99].size() == 991) ended++;
  }
};

thread_local holder of_thread;
thread_local std::unique_ptr<holder> also_of_thread;
holder of_process;

struct alignas(128) aligned {
  char bytes[300];
};

void work(std::vector<std::string> *results) {
  also_of_thread = std::make_unique<holder>();
  for (int i = 0; i < 2000; i++) {
    results->push_back(of_thread.map[i % 100] + std::to_string(i));
    try {
      if (i % 10 == 0) throw std::runtime_error(std::string(500, 'e'));
    } catch (const std::runtime_error &error) {
      if (std::string(error.what()).size() != 500) std::abort();
    }
    std::unique_ptr<aligned> one(new aligned);
    std::unique_ptr<aligned[]> many(new aligned[3]);
    if (reinterpret_cast<std::size_t>(one.get()) % 128 != 0) std::abort();
    if (reinterpret_cast<std::size_t>(many.get()) % 128 != 0) std::abort();
  }
}

} // namespace

int main() {
  volatile std::size_t huge = std::size_t(-1) / 2;
  try {
    ::operator delete(::operator new(huge));
    return 1;
  } catch (const std::bad_alloc &) {
  }
  if (::operator new(huge, std::nothrow) != nullptr) return 1;

  std::size_t total = 0;
  for (int round = 0; round < 20; round++) {
    std::vector<std::vector<std::string>> results(4);
    std::vector<std::thread> threads;
    for (auto &result : results) threads.emplace_back(work, &result);
    for (auto &thread : threads) thread.join();
    for (const auto &result : results) {
      for (const auto &text : result) total += text.size();
    }
  }
  std::printf("%zu bytes, %u objects ended\n", total, ended.load());
  return ended == 160 && of_process.map.size() == 100 ? 0 : 1;
}
