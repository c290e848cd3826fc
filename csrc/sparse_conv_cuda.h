// What the two ways to convolve on CUDA share: who reads whom, and the sum of a gradient's slabs.
#pragma once

#include "common/launch_cuda.h"
#include "sparse_conv.h"

namespace renderpretrain {

// The input row of an output under a cell, or -1.
__device__ inline int32_t input_of(const int32_t* inputs, const ConvShape& shape, int64_t cell,
                                   int64_t output) {
  if (output < 0 || output >= shape.num_out) return -1;
  const int32_t input = inputs[cell * shape.num_out + output];
  return input >= 0 && input < shape.num_in ? input : -1;
}

template <typename T>
__global__ void add_slabs_kernel(const T* partial, int64_t size, int64_t num_slabs, T* grad_kernel) {
  const int64_t i = thread_index();
  if (i >= size) return;
  T total = 0;
  for (int64_t slab = 0; slab < num_slabs; ++slab) total += partial[slab * size + i];
  grad_kernel[i] = total;
}

}  // namespace renderpretrain
