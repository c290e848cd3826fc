// Sixteen numbers at a time, for CPU kernels: GCC's vector types, which every instruction set can run, and
// the few instructions they cannot name.
#pragma once

#include <cstring>
#include <type_traits>

#if defined(__AVX2__)
#include <immintrin.h>
#endif

#include "host_device.h"

namespace renderpretrain {

constexpr int kLanes = 16;

template <typename T>
struct VectorOf {
  typedef T type __attribute__((vector_size(kLanes * sizeof(T))));
};

// Half precision has no vectors of its own, so that the functions below on any T leave it alone.
template <>
struct VectorOf<Float16> {};
template <>
struct VectorOf<BFloat16> {};

template <typename T>
using Vector = typename VectorOf<T>::type;

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

// The sum of all lanes, in an order that does not depend on the instruction set.
template <typename T>
RP_HOST_DEVICE T sum(Vector<T> value) {
  T lane[kLanes];
  std::memcpy(lane, &value, sizeof(value));
  for (int half = kLanes / 2; half > 0; half /= 2) {
    for (int i = 0; i < half; ++i) lane[i] += lane[i + half];
  }
  return lane[0];
}

}  // namespace renderpretrain
