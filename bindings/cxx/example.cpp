// example.cpp - an interpreter of expressions in 40 lines: its values are objects of 12 bytes that
// refer to each other by 32 bits, and a collector frees those that nobody needs any more.
#include <mirt.hpp>

#include <cstdio>
#include <map>
#include <string>

struct lisp {}; // stands for the cage
struct pair;
using value = mirt::ref<pair, lisp>; // null is the empty list

struct pair {
  int number;
  value first, rest;
};

class interpreter {
public:
  value cons(int number, value first, value rest) {
    const mirt::root<pair, lisp> a(thread_, first),
        b(thread_, rest); // over the collection
    if (++made_ % 1000 == 0) collections_ += runtime_.collect().freed_objects != 0;
    return value(mirt::make(thread_, pairs_, pair{number, a, b}));
  }
  // A tree of sums that is as deep as this.
  value tree(int depth) {
    if (depth == 0) return cons(1, nullptr, nullptr);
    const mirt::root<pair, lisp> left(thread_, tree(depth - 1));
    return cons(0, left, tree(depth - 1));
  }
  int sum(value v) { return v == nullptr ? 0 : v->number + sum(v->first) + sum(v->rest); }
  void define(const std::string &name, value v) {
    names_.try_emplace(name, thread_, v).first->second = v;
  }
  value look_up(const std::string &name) { return names_.at(name); }
  std::size_t live() { return runtime_.collect().live_objects; }
  int collections() const { return collections_; }

private:
  mirt::runtime<lisp> runtime_;
  mirt::mutator<lisp> thread_{runtime_};
  mirt::type<pair, lisp> pairs_{runtime_, "pair", &pair::first, &pair::rest};
  std::map<std::string, mirt::root<pair, lisp>> names_;
  int made_ = 0, collections_ = 0;
};

int main() {
  interpreter lisp;
  lisp.define("kept", lisp.tree(10));
  int total = 0;
  for (int i = 0; i < 50; i++) total += lisp.sum(lisp.tree(8));
  std::printf("%d, %d, %zu objects live, collected: %s\n", total,
              lisp.sum(lisp.look_up("kept")), lisp.live(),
              lisp.collections() > 10 ? "yes" : "no");
}
