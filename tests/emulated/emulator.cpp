// What the threads of a block wait for, and what is wrong when nobody can go on.
//
// EMULATED_CUDA_ORDER=forward|reverse|random[:seed] is the order of blocks, and of threads between two
// barriers: a barrier that is missing shows as a wrong result in one of them.
#include <cuda_runtime.h>
#include <cuda_pipeline.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <numeric>
#include <random>
#include <string>

#include "fibers.h"

// One launch at a time, so that nothing here is of one thread of the host, which is slow in a library.
dim3 threadIdx, blockIdx, blockDim, gridDim;

namespace emulated {
namespace {

constexpr size_t kSharedBytes = 48 << 10;    // of a block that asks for no more
constexpr int kMostSharedBytes = 227 << 10;  // that it may ask for, on compute capability 9.0
constexpr int kMostThreads = 1024;
constexpr int kMultiprocessors = 132;

enum class State { kReady, kAtBlock, kAtWarp, kEnded };
const char* const kWords[] = {"could run", "wait for the block", "wait for their warp", "have ended"};

struct Thread {
  State state = State::kEnded;
  Site site{};
  unsigned mask = 0;
  int value = 0;
  Shown shown{};
  std::vector<std::vector<Copy>> copies{1};
  Fiber fiber;
};

struct Array {
  std::unique_ptr<char[]> memory;
  size_t size = 0;
  bool in_use = false;  // by the block that runs
};

struct Device {
  std::deque<Thread> threads;  // as many as any block has had
  int count = 0;               // of the block that runs
  int current = 0;
  std::vector<int> order;
  Shown shown[kMostThreads / kWarp][kWarp];
  int votes = 0;
  std::map<const void*, Array> arrays;
  std::vector<std::unique_ptr<char[]>> left;  // arrays of blocks that have ended
  std::map<const void*, int> allowed;         // bytes of dynamic shared memory, by kernel
  size_t shared_bytes = 0, dynamic_bytes = 0;
  std::mt19937 random;
  // What happens before what.
  char begin = 0, done = 0, filled = 0, barrier[2] = {}, warps[kMostThreads / kWarp] = {};
  unsigned generation = 0;
};

Device device;
std::mutex one_launch;
thread_local cudaError_t last_error = cudaSuccess;

bool same_place(const Thread& a, const Thread& b) {
  return a.site.line == b.site.line && (a.site.file == b.site.file || !std::strcmp(a.site.file, b.site.file));
}

// Which threads do what, neighbours that do the same in one line.
void print_threads() {
  for (int first = 0, next; first < device.count; first = next) {
    const Thread& shown = device.threads[first];
    next = first + 1;
    while (next < device.count && device.threads[next].state == shown.state &&
           (shown.state == State::kReady || shown.state == State::kEnded ||
            same_place(device.threads[next], shown))) {
      ++next;
    }
    std::fprintf(stderr, "  threads %d to %d %s", first, next - 1, kWords[static_cast<int>(shown.state)]);
    if (shown.state == State::kAtBlock || shown.state == State::kAtWarp)
      std::fprintf(stderr, " at %s:%d", shown.site.file, shown.site.line);
    std::fprintf(stderr, "\n");
  }
}

Thread& self() { return device.threads[device.current]; }

// Runs until the thread waits for others, or ends.
void resume(int index, const std::function<void()>& body) {
  Thread& thread = device.threads[index];
  device.current = index;
  threadIdx = {index % blockDim.x, index / blockDim.x % blockDim.y, index / blockDim.x / blockDim.y};
  thread.fiber.resume(&body);
  if (!thread.fiber.ended) return;
  thread.state = State::kEnded;
  const size_t open = thread.copies.size() > 1 || !thread.copies[0].empty();
  if (open) stop("a thread ended before its asynchronous copies");
}

// Whether all lanes that a lane waits for have arrived.
bool is_complete(int first, const Thread& leader) {
  for (int lane = 0; lane < kWarp; ++lane) {
    if (!(leader.mask >> lane & 1)) continue;
    if (first + lane >= device.count) stop("the mask names a lane that does not exist");
    const Thread& other = device.threads[first + lane];
    if (other.state == State::kEnded) stop("the mask names a lane that has ended");
    if (other.state != State::kAtWarp) return false;
    if (other.mask != leader.mask) stop("lanes of one warp wait with different masks");
    if (!same_place(other, leader)) stop("lanes of one mask wait at different places");
  }
  return true;
}

// Lets the lanes of a warp go on that have all arrived; whether there were any.
bool release_warp(int first) {
  bool released = false;
  for (int index = first; index < std::min(first + kWarp, device.count); ++index) {
    const Thread& leader = device.threads[index];
    if (leader.state != State::kAtWarp) continue;
    if (!(leader.mask >> (index - first) & 1)) stop("a lane is not in its own mask");
    if (!is_complete(first, leader)) continue;
    const unsigned mask = leader.mask;
    for (int lane = 0; lane < kWarp; ++lane) {
      if (!(mask >> lane & 1)) continue;
      Thread& member = device.threads[first + lane];
      device.shown[first / kWarp][lane] = member.shown;
      member.state = State::kReady;
    }
    released = true;
  }
  return released;
}

bool release_block() {
  const Thread* leader = nullptr;
  int arrived = 0, ended = 0, votes = 0;
  for (int index = 0; index < device.count; ++index) {
    const Thread& thread = device.threads[index];
    ended += thread.state == State::kEnded;
    if (thread.state != State::kAtBlock) continue;
    if (leader != nullptr && !same_place(*leader, thread))
      stop("threads of one block wait at different barriers");
    leader = &thread;
    ++arrived;
    votes += thread.value != 0;
  }
  if (arrived > 0 && ended > 0) stop("threads have ended for which others of the block wait");
  if (arrived < device.count) return false;
  device.votes = votes;
  for (int index = 0; index < device.count; ++index) device.threads[index].state = State::kReady;
  ++device.generation;
  return true;
}

void run_block(const std::function<void()>& body) {
  for (auto& [key, array] : device.arrays) array.in_use = false;
  device.shared_bytes = device.dynamic_bytes;
  for (int index = 0; index < device.count; ++index) device.threads[index].state = State::kReady;
  for (;;) {
    bool progress = false;
    for (const int index : device.order) {
      if (device.threads[index].state != State::kReady) continue;
      resume(index, body);
      progress = true;
    }
    const auto ended = [](const Thread& thread) { return thread.state == State::kEnded; };
    if (std::all_of(device.threads.begin(), device.threads.begin() + device.count, ended)) return;
    for (int first = 0; first < device.count; first += kWarp) progress = release_warp(first) || progress;
    progress = release_block() || progress;
    if (!progress) stop("nobody can go on");
  }
}

enum class Order { kForward, kReverse, kRandom };

Order chosen_order() {
  const char* const asked = std::getenv("EMULATED_CUDA_ORDER");
  const std::string order = asked != nullptr ? asked : "forward";
  if (order == "forward") return Order::kForward;
  if (order == "reverse") return Order::kReverse;
  if (order.rfind("random", 0) != 0) stop("EMULATED_CUDA_ORDER is forward, reverse or random[:seed]");
  device.random.seed(order.size() > 7 ? static_cast<unsigned>(std::atoi(order.c_str() + 7)) : 0);
  return Order::kRandom;
}

bool is_possible(const Launch& launch, const void* kernel) {
  const dim3 &grid = launch.grid, &block = launch.block;
  const auto allowed = device.allowed.find(kernel);
  const size_t most = allowed != device.allowed.end() ? static_cast<size_t>(allowed->second) : kSharedBytes;
  const uint64_t threads = uint64_t{block.x} * block.y * block.z;
  return grid.x > 0 && grid.y > 0 && grid.z > 0 && grid.x <= INT32_MAX && grid.y <= UINT16_MAX &&
         grid.z <= UINT16_MAX && threads > 0 && threads <= kMostThreads && block.z <= 64 &&
         launch.shared_bytes <= most;
}

void prepare(const Launch& launch, Order order) {
  gridDim = launch.grid, blockDim = launch.block;
  device.count = static_cast<int>(blockDim.x * blockDim.y * blockDim.z);
  device.dynamic_bytes = launch.shared_bytes;
  device.arrays.clear();
  while (static_cast<int>(device.threads.size()) < device.count) device.threads.emplace_back();
  device.order.resize(device.count);
  std::iota(device.order.begin(), device.order.end(), 0);
  if (order == Order::kReverse) std::reverse(device.order.begin(), device.order.end());
}

}  // namespace

void stop(const char* what) {
  std::fprintf(stderr, "emulated CUDA: block (%u, %u, %u): %s\n", blockIdx.x, blockIdx.y, blockIdx.z, what);
  print_threads();
  std::abort();
}

void Launch::run(const void* kernel, const std::function<void()>& body) const {
  const std::lock_guard<std::mutex> alone(one_launch);
  if (!is_possible(*this, kernel)) {
    last_error = cudaErrorInvalidConfiguration;
    return;
  }
  const Order order = chosen_order();
  prepare(*this, order);
  // A thread begins after all that the host did before the launch, and the host goes on after its end.
  const std::function<void()> ordered = [&] {
    acquire(&device.begin);
    body();
    release(&device.done);
  };
  release(&device.begin);
  const uint64_t blocks = uint64_t{grid.x} * grid.y * grid.z;
  std::vector<uint64_t> sequence(order == Order::kForward ? 0 : blocks);
  std::iota(sequence.rbegin(), sequence.rend(), 0);
  if (order == Order::kRandom) std::shuffle(sequence.begin(), sequence.end(), device.random);
  for (uint64_t step = 0; step < blocks; ++step) {
    const uint64_t index = order == Order::kForward ? step : sequence[step];
    blockIdx = {static_cast<unsigned>(index % grid.x), static_cast<unsigned>(index / grid.x % grid.y),
                static_cast<unsigned>(index / grid.x / grid.y)};
    if (order == Order::kRandom) std::shuffle(device.order.begin(), device.order.end(), device.random);
    run_block(ordered);
  }
  acquire(&device.done);
  device.left.clear();
}

cudaError_t allow_shared(const void* kernel, int bytes) {
  if (bytes < 0 || bytes > kMostSharedBytes) return cudaErrorInvalidValue;
  const std::lock_guard<std::mutex> alone(one_launch);
  device.allowed[kernel] = bytes;
  return cudaSuccess;
}

void* shared(const void* key, size_t size) {
  Array& array = device.arrays[key];
  if (!array.in_use) {
    device.shared_bytes += size;
    if (key != &device.dynamic_bytes && device.shared_bytes - device.dynamic_bytes > kSharedBytes)
      stop("more than 48 KiB of shared memory that is not asked for at the launch");
#if defined(EMULATED_THREADS)  // or what a block reads last would race with what the next one writes
    if (array.memory) device.left.push_back(std::move(array.memory));
#endif
    if (!array.memory) array.memory.reset(new char[size]);
    array.size = size;
    array.in_use = true;
    std::memset(array.memory.get(), 0xff, size);
    release(&device.filled);
  }
  acquire(&device.filled);
  return array.memory.get();
}

void* dynamic_shared() {
  const size_t before = device.shared_bytes;
  void* const memory = shared(&device.dynamic_bytes, device.dynamic_bytes);
  device.shared_bytes = before;  // the launch has counted it
  return memory;
}

int wait_for_block(Site site, int value) {
  Thread& thread = self();
  thread.site = site;
  thread.value = value;
  thread.state = State::kAtBlock;
  char* const token = &device.barrier[device.generation % 2];
  release(token);
  thread.fiber.give_way();
  acquire(token);
  return device.votes;
}

void wait_for_warp(Site site, unsigned mask) {
  char* const token = &device.warps[device.current / kWarp];
  release(token);
  exchange(site, mask, Shown{});
  acquire(token);
}

// Orders nothing but the values that are shown.
const Shown* exchange(Site site, unsigned mask, const Shown& mine) {
  Thread& thread = self();
  const int warp = device.current / kWarp;
  thread.site = site;
  thread.mask = mask;
  thread.shown = mine;
  thread.state = State::kAtWarp;
  thread.fiber.give_way();
  return device.shown[warp];
}

unsigned lane() { return static_cast<unsigned>(device.current % kWarp); }

std::vector<std::vector<Copy>>& copies() { return self().copies; }

}  // namespace emulated

cudaError_t cudaPeekAtLastError() { return emulated::last_error; }

cudaError_t cudaGetLastError() {
  const cudaError_t code = emulated::last_error;
  emulated::last_error = cudaSuccess;
  return code;
}

const char* cudaGetErrorString(cudaError_t code) {
  if (code == cudaSuccess) return "no error";
  if (code == cudaErrorInvalidConfiguration) return "invalid configuration argument";
  return code == cudaErrorInvalidValue ? "invalid argument" : "unrecognized error code";
}

cudaError_t cudaGetDevice(int* index) {
  *index = 0;
  return cudaSuccess;
}

cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int) {
  if (attribute == cudaDevAttrMultiProcessorCount) *value = emulated::kMultiprocessors;
  if (attribute == cudaDevAttrComputeCapabilityMajor) *value = __CUDA_ARCH__ / 100;
  if (attribute == cudaDevAttrComputeCapabilityMinor) *value = __CUDA_ARCH__ / 10 % 10;
  if (attribute == cudaDevAttrMaxSharedMemoryPerBlockOptin) *value = emulated::kMostSharedBytes;
  return cudaSuccess;
}

cudaError_t cudaMemsetAsync(void* memory, int byte, size_t count, cudaStream_t) {
  std::memset(memory, byte, count);
  return cudaSuccess;
}
