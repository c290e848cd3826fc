// Hides the system's header of this name from csrc/common/library_cuda.cu, which asks the driver for its
// version.
#pragma once

#include <cuda_runtime.h>

#define RTLD_NOW 2
#define RTLD_LOCAL 0

namespace emulated {

inline int driver_version(int* version) {
  *version = CUDART_VERSION;
  return 0;
}

}  // namespace emulated

// The one library is the driver, and its one function gives the version.
#define dlopen(name, flags) static_cast<void*>(&blockIdx)
#define dlsym(library, name) reinterpret_cast<void*>(&emulated::driver_version)
