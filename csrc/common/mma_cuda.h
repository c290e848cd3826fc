// Products of small matrices on tensor cores: sum += a * b, by all 32 lanes of a warp together, a and b in
// few bits and the sum in float32. From compute capability 8.0; on older cards the kernel stops.
//
// A matrix is spread over the lanes as the hardware wants it. With `group` = lane / 4 and `of` = lane % 4, a
// lane holds of TF32, in m16n8k8, 32 bits each,
//   a (16, 8)  {[group][of], [group + 8][of], [group][of + 4], [group + 8][of + 4]}
//   b (8, 8)   {[of][group], [of + 4][group]}
// of half precision, in m16n8k16, two neighbours along k each, the first in the low bits,
//   a (16, 16) {[group][2 of], [group + 8][2 of], [group][2 of + 8], [group + 8][2 of + 8]}
//   b (16, 8)  {[2 of][group], [2 of + 8][group]}
// and of the sum (16, 8), whatever the type,
//   {[group][2 of], [group][2 of + 1], [group + 8][2 of], [group + 8][2 of + 1]}
//
// The only assembly among the kernels: where they are emulated (tests/emulated) it has no meaning, and these
// functions are the emulator's.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

namespace renderpretrain {

#if defined(RP_EMULATED)

__device__ inline uint32_t to_tf32(float value) { return emulated::to_tf32(value); }
__device__ inline void multiply_tf32(const uint32_t (&a)[4], const uint32_t (&b)[2], float (&sum)[4]) {
  emulated::multiply_tf32(a, b, sum);
}
__device__ inline void multiply_bf16(const uint32_t (&a)[4], const uint32_t (&b)[2], float (&sum)[4]) {
  emulated::multiply_bf16(a, b, sum);
}
__device__ inline void multiply_fp16(const uint32_t (&a)[4], const uint32_t (&b)[2], float (&sum)[4]) {
  emulated::multiply_fp16(a, b, sum);
}

#elif defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800

// The nearest number of 10 bits, halves away from zero. Tensor cores cut what has not been rounded.
__device__ inline uint32_t to_tf32(float value) {
  uint32_t bits;
  asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(bits) : "f"(value));
  return bits;
}

#define RP_MULTIPLY(NAME, KIND)                                                                              \
  __device__ inline void NAME(const uint32_t (&a)[4], const uint32_t (&b)[2], float (&sum)[4]) {             \
    asm volatile("mma.sync.aligned." KIND " {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};" \
                 : "+f"(sum[0]), "+f"(sum[1]), "+f"(sum[2]), "+f"(sum[3])                                    \
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));                        \
  }
RP_MULTIPLY(multiply_tf32, "m16n8k8.row.col.f32.tf32.tf32.f32")
RP_MULTIPLY(multiply_bf16, "m16n8k16.row.col.f32.bf16.bf16.f32")
RP_MULTIPLY(multiply_fp16, "m16n8k16.row.col.f32.f16.f16.f32")
#undef RP_MULTIPLY

#else

__device__ inline uint32_t to_tf32(float) {
  __trap();
  return 0;
}
__device__ inline void multiply_tf32(const uint32_t (&)[4], const uint32_t (&)[2], float (&)[4]) { __trap(); }
__device__ inline void multiply_bf16(const uint32_t (&)[4], const uint32_t (&)[2], float (&)[4]) { __trap(); }
__device__ inline void multiply_fp16(const uint32_t (&)[4], const uint32_t (&)[2], float (&)[4]) { __trap(); }

#endif

}  // namespace renderpretrain
