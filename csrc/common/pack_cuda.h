// Neighbouring numbers that are read, written and added at once.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>
#include <type_traits>

namespace renderpretrain {

template <int kCount, typename T>
struct alignas(kCount * sizeof(T) < 16 ? kCount * sizeof(T) : 16) Pack {
  T at[kCount];
};

template <int kCount, typename T>
__device__ __forceinline__ Pack<kCount, T> pack_at(const T* from) {
  return *reinterpret_cast<const Pack<kCount, T>*>(from);
}

// Whether memory may be read and written four numbers at a time.
inline bool is_aligned_to_four(const void* memory) { return reinterpret_cast<uintptr_t>(memory) % 16 == 0; }

// Adds each number as one atomic addition; four floats in one instruction from compute capability 9.0 and
// CUDA 12.1 on.
template <int kCount, typename T>
__device__ __forceinline__ void add_atomically(T* to, const Pack<kCount, T>& numbers) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900 && CUDART_VERSION >= 12010
  constexpr bool kAtOnce = kCount == 4 && std::is_same_v<T, float>;
#else
  constexpr bool kAtOnce = false;
#endif
  if constexpr (kAtOnce) {
    atomicAdd(reinterpret_cast<float4*>(to),
              make_float4(numbers.at[0], numbers.at[1], numbers.at[2], numbers.at[3]));
  } else {
    for (int i = 0; i < kCount; ++i) atomicAdd(to + i, numbers.at[i]);
  }
}

}  // namespace renderpretrain
