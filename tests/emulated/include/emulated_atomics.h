// Atomic for the race detector too; one thread of the host runs all fibers, so no loop ever repeats.
#pragma once

#include <cstdint>
#include <cstring>
#include <type_traits>

namespace emulated {

// Replaces *address by change(*address); what was there before.
template <typename T, typename Change>
T replace(T* address, Change change) {
  using Bits = std::conditional_t<sizeof(T) == 4, uint32_t, uint64_t>;
  static_assert(sizeof(T) == sizeof(Bits), "atomics take 4 or 8 bytes");
  Bits* const place = reinterpret_cast<Bits*>(address);
  Bits old = __atomic_load_n(place, __ATOMIC_RELAXED), next;
  T before, after;
  do {
    std::memcpy(&before, &old, sizeof(T));
    after = change(before);
    std::memcpy(&next, &after, sizeof(T));
  } while (!__atomic_compare_exchange_n(place, &old, next, true, __ATOMIC_RELAXED, __ATOMIC_RELAXED));
  return before;
}

}  // namespace emulated

// The value has the type of the memory: `atomicAdd(int*, int)`, as with CUDA.
template <typename T>
T atomicAdd(T* address, std::common_type_t<T> value) {
  return emulated::replace(address, [=](T before) { return before + value; });
}
template <typename T>
T atomicMax(T* address, std::common_type_t<T> value) {
  static_assert(std::is_integral<T>::value, "CUDA has none of floating numbers");
  return emulated::replace(address, [=](T before) { return before > value ? before : value; });
}
template <typename T>
T atomicMin(T* address, std::common_type_t<T> value) {
  static_assert(std::is_integral<T>::value, "CUDA has none of floating numbers");
  return emulated::replace(address, [=](T before) { return before < value ? before : value; });
}
template <typename T>
T atomicExch(T* address, std::common_type_t<T> value) {
  return emulated::replace(address, [=](T) { return value; });
}
template <typename T>
T atomicCAS(T* address, std::common_type_t<T> expected, std::common_type_t<T> value) {
  static_assert(std::is_integral<T>::value, "CUDA has none of floating numbers");
  return emulated::replace(address, [=](T before) { return before == expected ? value : before; });
}

// Vectors in one instruction, from compute capability 9.0; each of their numbers is atomic, not all together.
inline void atomicAdd(float2* address, float2 value) {
  atomicAdd(&address->x, value.x), atomicAdd(&address->y, value.y);
}
inline void atomicAdd(float4* address, float4 value) {
  atomicAdd(&address->x, value.x), atomicAdd(&address->y, value.y);
  atomicAdd(&address->z, value.z), atomicAdd(&address->w, value.w);
}
