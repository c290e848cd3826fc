// One register of numbers, however wide the instruction set has them, for CPU kernels that hold many sums at
// once. GCC keeps a vector wider than a register in memory: sixteen sums of vector.h run at 5 GFLOP/s with
// AVX2, as many registers at 60.
#pragma once

#include <cstring>
#include <type_traits>

#if defined(__AVX2__)
#include <immintrin.h>
#endif

#include "common/host_device.h"

namespace renderpretrain {

#if defined(__AVX512F__)
constexpr int kRegisterBytes = 64;
#elif defined(__AVX2__)
constexpr int kRegisterBytes = 32;
#else
constexpr int kRegisterBytes = 16;
#endif

template <typename T>
constexpr int kWidth = kRegisterBytes / sizeof(T);

template <typename T>
struct RegisterOf {
  typedef T type __attribute__((vector_size(kRegisterBytes)));
};

template <typename T>
using Register = typename RegisterOf<T>::type;

template <typename T>
RP_HOST_DEVICE Register<T> load_register(const T* from) {
  Register<T> value;
  std::memcpy(&value, from, sizeof(value));
  return value;
}

template <typename T>
RP_HOST_DEVICE void store_register(T* to, Register<T> value) {
  std::memcpy(to, &value, sizeof(value));
}

// a * b + c, in one rounding where the instruction set has it.
template <typename T>
RP_HOST_DEVICE Register<T> multiply_add(T a, Register<T> b, Register<T> c) {
  const Register<T> factor = a - Register<T>{};
#if defined(__AVX512F__)
  if constexpr (std::is_same_v<T, float>) return _mm512_fmadd_ps(factor, b, c);
  if constexpr (std::is_same_v<T, double>) return _mm512_fmadd_pd(factor, b, c);
#elif defined(__AVX2__) && defined(__FMA__)
  if constexpr (std::is_same_v<T, float>) return _mm256_fmadd_ps(factor, b, c);
  if constexpr (std::is_same_v<T, double>) return _mm256_fmadd_pd(factor, b, c);
#else
  return factor * b + c;
#endif
}

}  // namespace renderpretrain
