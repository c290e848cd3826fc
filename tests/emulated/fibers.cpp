#include "fibers.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>
#include <new>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/common_interface_defs.h>
#endif
#if defined(EMULATED_THREADS)
#include <sanitizer/tsan_interface.h>
#endif

#if !defined(__x86_64__)
#error "fibers are written for x86-64"
#endif

// Saves the registers that a call keeps, and goes on where `to` was saved.
extern "C" void emulated_switch(void** from, void* to);
asm(R"(
.text
.globl emulated_switch
.hidden emulated_switch
.type emulated_switch,@function
emulated_switch:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size emulated_switch,.-emulated_switch
)");

namespace emulated {
namespace {

constexpr size_t kStack = 256 << 10;
constexpr int kSavedRegisters = 6;

size_t page_size() { return static_cast<size_t>(sysconf(_SC_PAGESIZE)); }

Fiber* running = nullptr;

}  // namespace

Fiber::Fiber() {
  const size_t page = page_size();
  void* const pages =
      mmap(nullptr, kStack + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (pages == MAP_FAILED || mprotect(pages, page, PROT_NONE) != 0) throw std::bad_alloc();
  memory = static_cast<char*>(pages);
  void** top = reinterpret_cast<void**>(memory + page + kStack);
  *--top = nullptr;  // where a function begins, the stack is 8 off a multiple of 16
  *--top = reinterpret_cast<void*>(&Fiber::run);
  for (int i = 0; i < kSavedRegisters; ++i) *--top = nullptr;
  saved = top;
#if defined(EMULATED_THREADS)
  own_thread = __tsan_create_fiber(0);
#endif
}

Fiber::~Fiber() {
  munmap(memory, kStack + page_size());
#if defined(EMULATED_THREADS)
  __tsan_destroy_fiber(own_thread);
#endif
}

void Fiber::resume(const std::function<void()>* what) {
  body = what;
  running = this;
  ended = false;
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_start_switch_fiber(&host_stack, memory + page_size(), kStack);
#endif
#if defined(EMULATED_THREADS)
  host_thread = __tsan_get_current_fiber();
  __tsan_switch_to_fiber(own_thread, __tsan_switch_to_fiber_no_sync);
#endif
  emulated_switch(&host, saved);
  back();
}

// On the host's stack again.
void Fiber::back() {
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(host_stack, nullptr, nullptr);
#endif
}

void Fiber::give_way() {
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_start_switch_fiber(&own_stack, host_bottom, host_size);
#endif
#if defined(EMULATED_THREADS)
  __tsan_switch_to_fiber(host_thread, __tsan_switch_to_fiber_no_sync);
#endif
  emulated_switch(&saved, host);
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(own_stack, &host_bottom, &host_size);
#endif
}

// One thread of a block after the other.
void Fiber::run() {
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(nullptr, &running->host_bottom, &running->host_size);
#endif
  for (;;) {
    Fiber& self = *running;
    (*self.body)();
    self.ended = true;
    self.give_way();
  }
}

void release(char* token) {
#if defined(EMULATED_THREADS)
  __tsan_release(token);
#else
  (void)token;
#endif
}

void acquire(char* token) {
#if defined(EMULATED_THREADS)
  __tsan_acquire(token);
#else
  (void)token;
#endif
}

}  // namespace emulated
