// One thread per item, or so many blocks, and the error of the launch.
#pragma once

#include <cuda_runtime.h>

#include "common/host_device.h"

namespace renderpretrain {

constexpr int kThreads = 256;

__device__ inline int64_t thread_index() { return blockIdx.x * static_cast<int64_t>(kThreads) + threadIdx.x; }

// Calls kernel(arguments...) with so many blocks; a CUDA error code comes back as it is.
template <typename... Parameters, typename... Arguments>
int launch_blocks(void (*kernel)(Parameters...), int64_t blocks, int threads, void* stream,
                  Arguments... arguments) {
  if (blocks == 0) return RP_OK;
  if (blocks > INT32_MAX) return cudaErrorInvalidConfiguration;  // the largest grid
  kernel<<<static_cast<unsigned>(blocks), threads, 0, static_cast<cudaStream_t>(stream)>>>(arguments...);
  return cudaGetLastError();
}

// The same with at least `count` threads.
template <typename... Parameters, typename... Arguments>
int launch(void (*kernel)(Parameters...), int64_t count, void* stream, Arguments... arguments) {
  return launch_blocks(kernel, (count + kThreads - 1) / kThreads, kThreads, stream, arguments...);
}

}  // namespace renderpretrain
