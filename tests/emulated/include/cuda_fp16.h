// Half precision as CUDA stores it, and its way to and from float.
#pragma once

#include <cstdint>
#include <cstring>

struct __half {
  uint16_t bits;
};
inline __half __ushort_as_half(uint16_t bits) { return {bits}; }
inline uint16_t __half_as_ushort(__half value) { return value.bits; }
inline float __half2float(__half value) {
  _Float16 number;
  std::memcpy(&number, &value.bits, sizeof(number));
  return static_cast<float>(number);
}
inline __half __float2half_rn(float value) {
  const _Float16 number = static_cast<_Float16>(value);
  __half out;
  std::memcpy(&out.bits, &number, sizeof(number));
  return out;
}
