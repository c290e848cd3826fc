// Products of small matrices by the type their numbers are stored in, written once for all of them: both
// operands are words of 32 bits, each a number of 32 bits or two of 16, eight words of them a step.
//
// A product gives Stored, the numbers in memory; Part<n>, n words prepared once to be multiplied often; and
// multiply(a, b, sum), sum (16, 8) += a (16, eight words) * b (eight words, 8), spread over the lanes of a
// warp as mma_cuda.h has it.
#pragma once

#include "common/host_device.h"
#include "common/mma_cuda.h"

namespace renderpretrain {

__device__ inline float float_of(uint32_t word) { return __uint_as_float(word); }

// float32 with 10 bits of mantissa.
struct RoundedProduct {
  using Stored = float;

  template <int kCount>
  struct Part {
    uint32_t word[kCount];

    __device__ void set(int i, uint32_t value) { word[i] = to_tf32(float_of(value)); }
  };

  __device__ static void multiply(const Part<4>& a, const Part<2>& b, float (&sum)[4]) {
    multiply_tf32(a.word, b.word, sum);
  }
};

// float32 as two numbers of 10 bits each: what is left out is below 2^-20 of a product. Tensor cores cut
// their sums off instead of rounding them, which adds up; so they add eight products, and we the eights.
struct ExactProduct {
  using Stored = float;

  template <int kCount>
  struct Part {
    uint32_t high[kCount], low[kCount];

    __device__ void set(int i, uint32_t value) {
      high[i] = to_tf32(float_of(value));
      low[i] = to_tf32(float_of(value) - float_of(high[i]));
    }
  };

  __device__ static void multiply(const Part<4>& a, const Part<2>& b, float (&sum)[4]) {
    float eight[4] = {};
    multiply_tf32(a.low, b.high, eight);
    multiply_tf32(a.high, b.low, eight);
    multiply_tf32(a.high, b.high, eight);
    for (int i = 0; i < 4; ++i) sum[i] += eight[i];
  }
};

template <typename Half>
struct HalfProduct {
  using Stored = Half;

  template <int kCount>
  struct Part {
    uint32_t word[kCount];

    __device__ void set(int i, uint32_t value) { word[i] = value; }
  };

  __device__ static void multiply(const Part<4>& a, const Part<2>& b, float (&sum)[4]) {
    if constexpr (std::is_same<Half, BFloat16>::value) {
      multiply_bf16(a.word, b.word, sum);
    } else {
      multiply_fp16(a.word, b.word, sum);
    }
  }
};

// Calls run(Product{}) with the product of a type; float32 is exact unless `rounded`.
template <typename Run>
int with_product(int64_t type, bool rounded, Run run) {
  if (type == RP_FLOAT32) return rounded ? run(RoundedProduct{}) : run(ExactProduct{});
  if (type == RP_BFLOAT16) return run(HalfProduct<BFloat16>{});
  if (type == RP_FLOAT16) return run(HalfProduct<Float16>{});
  return RP_BAD_TYPE;
}

}  // namespace renderpretrain
