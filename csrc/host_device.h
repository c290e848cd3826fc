// What both devices share: how a function is marked for both, and how a kernel picks its floating type.
#pragma once

#include <cstdint>

#include "renderpretrain.h"

#ifdef __CUDACC__
#define RP_HOST_DEVICE __host__ __device__ __forceinline__
#else
// Always inlined, so that the callers' clones for wider vectors (see RP_CLONES in parallel.h) carry the
// arithmetic too.
#define RP_HOST_DEVICE inline __attribute__((always_inline))
#endif

namespace renderpretrain {

// Calls run(T{}) with the type the code stands for; RP_BAD_TYPE for a code that stands for none.
template <typename Run>
int with_type(int64_t type, Run run) {
  if (type == RP_FLOAT32) return run(float{});
  if (type == RP_FLOAT64) return run(double{});
  return RP_BAD_TYPE;
}

}  // namespace renderpretrain
