// Copies to shared memory that run beside the kernel: they are there once they were waited for, not before.
#pragma once

#include <cuda_runtime.h>

#include <vector>

namespace emulated {

struct Copy {
  void* to;
  const void* from;
  size_t size, zeros;  // the last `zeros` bytes are not read but zero
};

// Of the thread that runs: a batch of copies per commit, the last one open.
std::vector<std::vector<Copy>>& copies();

}  // namespace emulated

inline void __pipeline_memcpy_async(void* to, const void* from, size_t size, size_t zeros = 0) {
  if (size != 4 && size != 8 && size != 16) emulated::stop("an asynchronous copy takes 4, 8 or 16 bytes");
  if (zeros > size) emulated::stop("an asynchronous copy has more zeros than bytes");
  if (reinterpret_cast<uintptr_t>(to) % size != 0 || reinterpret_cast<uintptr_t>(from) % size != 0)
    emulated::stop("an address of an asynchronous copy is not a multiple of its size");
  emulated::copies().back().push_back({to, from, size, zeros});
}

inline void __pipeline_commit() { emulated::copies().emplace_back(); }

// Waits for all batches that were committed but the last `left`.
inline void __pipeline_wait_prior(size_t left) {
  auto& batches = emulated::copies();
  const size_t committed = batches.size() - 1, count = committed > left ? committed - left : 0;
  for (size_t batch = 0; batch < count; ++batch) {
    for (const emulated::Copy& copy : batches[batch]) {
      std::memcpy(copy.to, copy.from, copy.size - copy.zeros);
      std::memset(static_cast<char*>(copy.to) + copy.size - copy.zeros, 0, copy.zeros);
    }
  }
  batches.erase(batches.begin(), batches.begin() + static_cast<std::ptrdiff_t>(count));
}
