#include <cuda_runtime.h>

#include "renderpretrain.h"

int rp_abi_version(void) { return RP_ABI_VERSION; }

const char* rp_unusable(void) {
  int driver = 0;
  if (cudaDriverGetVersion(&driver) != cudaSuccess || driver == 0) return "no CUDA driver";
  // Within one major version a newer runtime runs on an older driver.
  if (driver / 1000 < CUDART_VERSION / 1000)
    return "the CUDA driver is older than the toolkit this was built with";
  return nullptr;
}

const char* rp_error_text(int code) {
  if (code == RP_BAD_TYPE) return "expected float32, float64 or, where allowed, half precision";
  return cudaGetErrorString(static_cast<cudaError_t>(code));
}
