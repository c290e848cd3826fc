// CUDA's vectors, and its functions of numbers where C++ has none of that name.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

// Read and written at once, so at an address that its size divides: the sanitizer says where one is not.
#define RP_VECTORS(KIND, NAME)                                                                \
  struct alignas(2 * sizeof(KIND)) NAME##2 { KIND x, y; };                                    \
  struct alignas(4 * sizeof(KIND) > 16 ? 16 : 4 * sizeof(KIND)) NAME##4 { KIND x, y, z, w; }; \
  inline NAME##2 make_##NAME##2(KIND x, KIND y) { return {x, y}; }                            \
  inline NAME##4 make_##NAME##4(KIND x, KIND y, KIND z, KIND w) { return {x, y, z, w}; }
RP_VECTORS(float, float)
RP_VECTORS(double, double)
RP_VECTORS(int, int)
RP_VECTORS(unsigned, uint)
RP_VECTORS(unsigned short, ushort)
#undef RP_VECTORS

template <typename T>
T __ldg(const T* address) {
  return *address;
}

inline float rsqrtf(float value) { return 1 / sqrtf(value); }
inline double rsqrt(double value) { return 1 / sqrt(value); }
inline float __expf(float value) { return expf(value); }
inline float __logf(float value) { return logf(value); }
inline float __fdividef(float a, float b) { return a / b; }
inline float __fmaf_rn(float a, float b, float c) { return fmaf(a, b, c); }

inline int __popc(unsigned bits) { return __builtin_popcount(bits); }
inline int __ffs(int bits) { return __builtin_ffs(bits); }
inline int __clz(int bits) { return bits == 0 ? 32 : __builtin_clz(static_cast<unsigned>(bits)); }

template <typename To, typename From>
To emulated_bits(From value) {
  static_assert(sizeof(To) == sizeof(From), "the same bits");
  To out;
  std::memcpy(&out, &value, sizeof(out));
  return out;
}
inline int __float_as_int(float value) { return emulated_bits<int>(value); }
inline unsigned __float_as_uint(float value) { return emulated_bits<unsigned>(value); }
inline float __int_as_float(int value) { return emulated_bits<float>(value); }
inline float __uint_as_float(unsigned value) { return emulated_bits<float>(value); }

inline int min(int a, int b) { return a < b ? a : b; }
inline int max(int a, int b) { return a > b ? a : b; }
inline int64_t min(int64_t a, int64_t b) { return a < b ? a : b; }
inline int64_t max(int64_t a, int64_t b) { return a > b ? a : b; }
inline float min(float a, float b) { return fminf(a, b); }
inline float max(float a, float b) { return fmaxf(a, b); }
