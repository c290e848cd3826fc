// Threads of a block on one thread of the host: each has a stack of its own and runs until it gives way.
#pragma once

#include <cstddef>
#include <functional>

namespace emulated {

class Fiber {
 public:
  Fiber();
  Fiber(const Fiber&) = delete;
  ~Fiber();

  // Goes on where the fiber stopped, until it gives way; at first, and after the end, with *body().
  void resume(const std::function<void()>* body);

  // Called by the fiber that runs: back to where it was resumed.
  void give_way();

  bool ended = true;

 private:
  [[noreturn]] static void run();
  void back();

  char* memory = nullptr;  // a page that nobody may touch, then the stack
  void* saved = nullptr;
  void* host = nullptr;
  const std::function<void()>* body = nullptr;

  // What the address sanitizer and the thread sanitizer know the two stacks by.
  void *own_stack = nullptr, *host_stack = nullptr;
  const void* host_bottom = nullptr;
  size_t host_size = 0;
  void *own_thread = nullptr, *host_thread = nullptr;
};

// For the thread sanitizer: what one thread did before it releases a token comes before what another does
// after it acquires it.
void release(char* token);
void acquire(char* token);

}  // namespace emulated
