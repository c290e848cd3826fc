// What both devices share: how a function is marked for both, and how a kernel picks its floating type.
#pragma once

#include <cstdint>
#include <cstring>

#include "renderpretrain.h"

#ifdef __CUDACC__
#include <cuda_fp16.h>
#define RP_HOST_DEVICE __host__ __device__ __forceinline__
#else
// Always inlined: vectors are no good as arguments of a call.
#define RP_HOST_DEVICE inline __attribute__((always_inline))
#endif

namespace renderpretrain {

// Half precision as stored. Nothing is computed in it.
struct BFloat16 {
  uint16_t bits;
};
struct Float16 {
  uint16_t bits;
};

RP_HOST_DEVICE float to_float(float value) { return value; }
RP_HOST_DEVICE double to_float(double value) { return value; }

RP_HOST_DEVICE float to_float(BFloat16 value) {
  const uint32_t bits = static_cast<uint32_t>(value.bits) << 16;
  float out;
  std::memcpy(&out, &bits, sizeof(out));
  return out;
}

RP_HOST_DEVICE float to_float(Float16 value) {
#ifdef __CUDA_ARCH__
  return __half2float(__ushort_as_half(value.bits));
#else
  // The exponent is moved to float's place and rescaled by 2^112, which also gives subnormal numbers their
  // value; infinity and NaN keep all exponent bits.
  const uint32_t sign = static_cast<uint32_t>(value.bits & 0x8000u) << 16;
  uint32_t bits = static_cast<uint32_t>(value.bits & 0x7fffu) << 13;
  const bool finite = (value.bits & 0x7c00u) != 0x7c00u;
  float out;
  if (finite) {
    std::memcpy(&out, &bits, sizeof(out));
    out *= 5192296858534827628530496329220096.0f;  // 2^112
    std::memcpy(&bits, &out, sizeof(out));
  } else {
    bits |= 0x7f800000u;
  }
  bits |= sign;
  std::memcpy(&out, &bits, sizeof(out));
  return out;
#endif
}

// Calls run(T{}) with the type the code stands for; RP_BAD_TYPE for a code that stands for none.
template <typename Run>
int with_type(int64_t type, Run run) {
  if (type == RP_FLOAT32) return run(float{});
  if (type == RP_FLOAT64) return run(double{});
  return RP_BAD_TYPE;
}

// The same for run(T{}, V{}): T is computed in and V is stored, the same as T or half precision beside float.
template <typename Run>
int with_types(int64_t type, int64_t stored_type, Run run) {
  if (type == RP_FLOAT32 && stored_type == RP_FLOAT32) return run(float{}, float{});
  if (type == RP_FLOAT64 && stored_type == RP_FLOAT64) return run(double{}, double{});
  if (type == RP_FLOAT32 && stored_type == RP_FLOAT16) return run(float{}, Float16{});
  if (type == RP_FLOAT32 && stored_type == RP_BFLOAT16) return run(float{}, BFloat16{});
  return RP_BAD_TYPE;
}

}  // namespace renderpretrain
