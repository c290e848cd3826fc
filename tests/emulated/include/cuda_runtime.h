// CUDA's language and runtime for a C++ compiler, as far as csrc/ uses them; what is missing does not
// compile.
//
// Every thread of a block is a fiber, and blocks run one after the other (emulator.cpp). Where hardware would
// hang or do as it likes, the process stops with a message instead.
#pragma once

#include <math.h>

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <type_traits>

#define RP_EMULATED 1
#define __CUDACC__ 1
#define __CUDA_ARCH__ 900
#define __CUDA_ARCH_LIST__ 900
#define CUDART_VERSION 13000

#define __host__
#define __device__
#define __global__
#define __constant__
#define __grid_constant__
#define __launch_bounds__(...)
#define __align__(size) alignas(size)
#define __forceinline__ inline __attribute__((always_inline))

using std::fma;  // of float, not only of double
using std::isfinite;
using std::isnan;

#include "emulated_numbers.h"

struct dim3 {
  unsigned x, y, z;
  constexpr dim3(unsigned along_x = 1, unsigned along_y = 1, unsigned along_z = 1)
      : x(along_x), y(along_y), z(along_z) {}
};
extern dim3 threadIdx, blockIdx, blockDim, gridDim;
constexpr int warpSize = 32;

typedef struct emulated_stream* cudaStream_t;
enum cudaError_t { cudaSuccess = 0, cudaErrorInvalidValue = 1, cudaErrorInvalidConfiguration = 9 };
enum cudaFuncAttribute { cudaFuncAttributeMaxDynamicSharedMemorySize = 8 };
enum cudaDeviceAttr {
  cudaDevAttrMultiProcessorCount = 16,
  cudaDevAttrComputeCapabilityMajor = 75,
  cudaDevAttrComputeCapabilityMinor = 76,
  cudaDevAttrMaxSharedMemoryPerBlockOptin = 97
};

cudaError_t cudaGetLastError();
cudaError_t cudaPeekAtLastError();
const char* cudaGetErrorString(cudaError_t code);
cudaError_t cudaGetDevice(int* device);
cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int device);
cudaError_t cudaMemsetAsync(void* memory, int byte, size_t count, cudaStream_t stream);

namespace emulated {

constexpr int kWarp = 32;

// Where in a kernel a thread waits.
struct Site {
  const char* file;
  int line;
};

// What a lane shows the others of its warp.
struct Shown {
  alignas(16) unsigned char bytes[32];
};

// What stands between <<< and >>>.
struct Launch {
  dim3 grid, block;
  size_t shared_bytes;
  explicit Launch(dim3 blocks, dim3 threads, size_t shared = 0, cudaStream_t = nullptr)
      : grid(blocks), block(threads), shared_bytes(shared) {}

  // Runs body() once per thread of every block.
  void run(const void* kernel, const std::function<void()>& body) const;
};

template <typename... Parameters>
const void* address(void (*kernel)(Parameters...)) {
  return reinterpret_cast<const void*>(kernel);
}

cudaError_t allow_shared(const void* kernel, int bytes);

// Memory of the block that runs, one array per declaration and instantiation; filled with 0xff.
void* shared(const void* key, size_t size);
void* dynamic_shared();

template <typename Array>
Array& shared_array(const void* key) {
  return *static_cast<Array*>(shared(key, sizeof(Array)));
}

// Waits for all threads of the block; of their values the number that are not zero.
int wait_for_block(Site site, int value);
void wait_for_warp(Site site, unsigned mask);

// Waits for the lanes of the mask; then what all lanes showed, by their number.
const Shown* exchange(Site site, unsigned mask, const Shown& mine);
unsigned lane();
[[noreturn]] void stop(const char* what);

template <typename T>
Shown shown(const T& value) {
  static_assert(std::is_trivially_copyable<T>::value && sizeof(T) <= sizeof(Shown), "a lane shows 32 bytes");
  Shown out;
  std::memcpy(out.bytes, &value, sizeof(T));
  return out;
}

template <typename T>
T seen(const Shown& other) {
  T value;
  std::memcpy(&value, other.bytes, sizeof(T));
  return value;
}

// The value of another lane; a negative source is the lane itself.
template <typename T>
T from_lane(Site site, unsigned mask, T value, int source) {
  if (source < 0) source = static_cast<int>(lane());
  const Shown* const all = exchange(site, mask, shown(value));
  if (!(mask >> source & 1)) stop("a shuffle reads a lane outside of the mask");
  return seen<T>(all[source]);
}

// The lanes of the mask whose value is not zero.
inline unsigned vote(Site site, unsigned mask, int value) {
  const Shown* const all = exchange(site, mask, shown(value));
  unsigned found = 0;
  for (int i = 0; i < kWarp; ++i) {
    if (mask >> i & 1 && seen<int>(all[i]) != 0) found |= 1u << i;
  }
  return found;
}

// Tensor cores; csrc/common/mma_cuda.h says how matrices lie. Where they are called is where they wait.
uint32_t to_tf32(float value);
void multiply_tf32(const uint32_t (&a)[4], const uint32_t (&b)[2], float (&sum)[4]);
void multiply_bf16(const uint32_t (&a)[4], const uint32_t (&b)[2], float (&sum)[4]);
void multiply_fp16(const uint32_t (&a)[4], const uint32_t (&b)[2], float (&sum)[4]);

}  // namespace emulated

template <typename Kernel>
cudaError_t cudaFuncSetAttribute(Kernel* kernel, cudaFuncAttribute, int bytes) {
  return emulated::allow_shared(reinterpret_cast<const void*>(kernel), bytes);
}

[[noreturn]] inline void __trap() { emulated::stop("a trap"); }

#define RP_HERE const char *file = __builtin_FILE(), int line = __builtin_LINE()

inline void __syncthreads(RP_HERE) { emulated::wait_for_block({file, line}, 0); }
inline int __syncthreads_or(int value, RP_HERE) { return emulated::wait_for_block({file, line}, value) != 0; }
inline int __syncthreads_count(int value, RP_HERE) { return emulated::wait_for_block({file, line}, value); }
inline int __syncthreads_and(int value, RP_HERE) {
  return emulated::wait_for_block({file, line}, value == 0) == 0;
}
inline void __syncwarp(unsigned mask = ~0u, RP_HERE) { emulated::wait_for_warp({file, line}, mask); }

inline unsigned __ballot_sync(unsigned mask, int value, RP_HERE) {
  return emulated::vote({file, line}, mask, value);
}
inline int __any_sync(unsigned mask, int value, RP_HERE) {
  return emulated::vote({file, line}, mask, value) != 0;
}
inline int __all_sync(unsigned mask, int value, RP_HERE) {
  return emulated::vote({file, line}, mask, value) == mask;
}

// A lane of another group of `width` neighbours is not read: its own value comes back.
template <typename T>
T __shfl_sync(unsigned mask, T value, int source, int width = 32, RP_HERE) {
  const int first = static_cast<int>(emulated::lane()) / width * width;
  return emulated::from_lane({file, line}, mask, value, first + (source & (width - 1)));
}
template <typename T>
T __shfl_up_sync(unsigned mask, T value, unsigned delta, int width = 32, RP_HERE) {
  const int lane = static_cast<int>(emulated::lane()), source = lane - static_cast<int>(delta);
  return emulated::from_lane({file, line}, mask, value, source < lane / width * width ? -1 : source);
}
template <typename T>
T __shfl_down_sync(unsigned mask, T value, unsigned delta, int width = 32, RP_HERE) {
  const int lane = static_cast<int>(emulated::lane()), source = lane + static_cast<int>(delta);
  return emulated::from_lane({file, line}, mask, value, source >= lane / width * width + width ? -1 : source);
}
template <typename T>
T __shfl_xor_sync(unsigned mask, T value, int bits, int width = 32, RP_HERE) {
  const int lane = static_cast<int>(emulated::lane()), source = lane ^ bits;
  return emulated::from_lane({file, line}, mask, value, source >= lane / width * width + width ? -1 : source);
}

// Order within the memory of a block is that of its barriers; fibers see what others wrote.
inline void __threadfence() {}
inline void __threadfence_block() {}

#include "emulated_atomics.h"
