// Sixteen numbers at a time, for CPU kernels: GCC's vector types, which every instruction set can run, and
// the few instructions they cannot name.
#pragma once

#include <cstring>
#include <type_traits>

#if defined(__AVX2__)
#include <immintrin.h>
#endif

#include "common/host_device.h"

namespace renderpretrain {

constexpr int kLanes = 16;

// Empty for half precision, which is stored but not computed in.
template <typename T, int kCount, bool = std::is_arithmetic_v<T>>
struct VectorOf {};

template <typename T, int kCount>
struct VectorOf<T, kCount, true> {
  typedef T type __attribute__((vector_size(kCount * sizeof(T))));
};

template <typename T>
using Vector = typename VectorOf<T, kLanes>::type;

template <typename T>
RP_HOST_DEVICE Vector<T> fill(T value) {
  return value - Vector<T>{};
}

// Any address: kernels take what torch gives them.
template <typename T>
RP_HOST_DEVICE Vector<T> load(const T* from) {
  Vector<T> value;
  std::memcpy(&value, from, sizeof(value));
  return value;
}

template <typename T>
RP_HOST_DEVICE void store(T* to, Vector<T> value) {
  std::memcpy(to, &value, sizeof(value));
}

// The first `count` < kLanes numbers; the rest is zero, and no memory behind them is touched.
template <typename T>
RP_HOST_DEVICE Vector<T> load_some(const T* from, int count) {
#if defined(__AVX512F__)
  if constexpr (std::is_same_v<T, float>) {
    return (Vector<T>)_mm512_maskz_loadu_ps(static_cast<__mmask16>((1u << count) - 1), from);
  }
#endif
  Vector<T> value{};
  for (int i = 0; i < count; ++i) value[i] = from[i];
  return value;
}

template <typename T>
RP_HOST_DEVICE void store_some(T* to, Vector<T> value, int count) {
#if defined(__AVX512F__)
  if constexpr (std::is_same_v<T, float>) {
    _mm512_mask_storeu_ps(to, static_cast<__mmask16>((1u << count) - 1), (__m512)value);
    return;
  }
#endif
  for (int i = 0; i < count; ++i) to[i] = value[i];
}

// A store that goes past the caches, for results too large to be found there later. `to` is a multiple of
// kStreamAlignment bytes; call finish_streams before another thread may read.
constexpr uintptr_t kStreamAlignment = 64;

template <typename T>
RP_HOST_DEVICE void stream(T* to, Vector<T> value) {
#if defined(__AVX512F__)
  if constexpr (std::is_same_v<T, float>) return _mm512_stream_ps(to, (__m512)value);
#elif defined(__AVX2__)
  if constexpr (std::is_same_v<T, float>) {
    __m256 part[2];
    std::memcpy(part, &value, sizeof(value));
    for (int i = 0; i < 2; ++i) _mm256_stream_ps(to + 8 * i, part[i]);
    return;
  }
#endif
  store(to, value);
}

RP_HOST_DEVICE void finish_streams() {
#if defined(__AVX2__)
  _mm_sfence();
#endif
}

// Half precision is read as float.
RP_HOST_DEVICE Vector<float> load(const BFloat16* from) {
  typedef uint16_t Bits __attribute__((vector_size(kLanes * sizeof(uint16_t))));
  typedef uint32_t Wide __attribute__((vector_size(kLanes * sizeof(uint32_t))));
  Bits bits;
  std::memcpy(&bits, from, sizeof(bits));
  return (Vector<float>)(__builtin_convertvector(bits, Wide) << 16);
}

RP_HOST_DEVICE Vector<float> load(const Float16* from) {
#if defined(__AVX512F__)
  return (Vector<float>)_mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(from)));
#elif defined(__F16C__)
  __m256 part[2];
  for (int i = 0; i < 2; ++i) {
    part[i] = _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from + 8 * i)));
  }
  Vector<float> value;
  std::memcpy(&value, part, sizeof(value));
  return value;
#else
  Vector<float> value;
  for (int i = 0; i < kLanes; ++i) value[i] = to_float(from[i]);
  return value;
#endif
}

template <typename Half>
RP_HOST_DEVICE std::enable_if_t<sizeof(Half) == 2, Vector<float>> load_some(const Half* from, int count) {
  Half padded[kLanes] = {};
  for (int i = 0; i < count; ++i) padded[i] = from[i];
  return load(padded);
}

// As many as there are, up to kLanes.
template <typename T>
RP_HOST_DEVICE auto load_up_to(const T* from, int count) {
  return count == kLanes ? load(from) : load_some(from, count);
}

template <typename T>
RP_HOST_DEVICE void store_up_to(T* to, Vector<T> value, int count) {
  if (count == kLanes) store<T>(to, value);
  else store_some<T>(to, value, count);
}

// a * b + c, in one rounding where the instruction set has it.
template <typename T>
RP_HOST_DEVICE Vector<T> fma(Vector<T> a, Vector<T> b, Vector<T> c) {
#if defined(__AVX512F__)
  if constexpr (std::is_same_v<T, float>) {
    return (Vector<T>)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c);
  }
#elif defined(__FMA__)
  if constexpr (std::is_same_v<T, float>) {
    __m256 part[3][2];
    std::memcpy(part[0], &a, sizeof(a));
    std::memcpy(part[1], &b, sizeof(b));
    std::memcpy(part[2], &c, sizeof(c));
    for (int i = 0; i < 2; ++i) part[2][i] = _mm256_fmadd_ps(part[0][i], part[1][i], part[2][i]);
    std::memcpy(&c, part[2], sizeof(c));
    return c;
  }
#endif
  return a * b + c;
}

template <typename T>
RP_HOST_DEVICE Vector<T> fma(T a, Vector<T> b, Vector<T> c) {
  return fma<T>(fill(a), b, c);
}

// Largest whole number not above, for numbers that fit an int32_t.
template <typename T>
RP_HOST_DEVICE Vector<T> floor(Vector<T> value) {
  const Vector<T> whole = __builtin_convertvector(__builtin_convertvector(value, Vector<int32_t>), Vector<T>);
  return whole > value ? whole - 1 : whole;
}

// The sum of all lanes, in an order that does not depend on the instruction set: halves onto each other.
template <typename T, int kCount = kLanes>
RP_HOST_DEVICE T sum(typename VectorOf<T, kCount>::type value) {
  if constexpr (kCount == 1) {
    return value[0];
  } else {
    typename VectorOf<T, kCount / 2>::type half[2];
    std::memcpy(half, &value, sizeof(value));
    return sum<T, kCount / 2>(half[0] + half[1]);
  }
}

}  // namespace renderpretrain
