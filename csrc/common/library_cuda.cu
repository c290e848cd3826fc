#include <cuda_runtime.h>
#include <dlfcn.h>

#include "renderpretrain.h"

int rp_abi_version(void) { return RP_ABI_VERSION; }

// The runtime would answer too, but it initialises the driver first: processes forked later could not use
// CUDA, and CUDA_VISIBLE_DEVICES would be read before its time. The driver itself needs no initialising.
static int driver_version() {
  void* const driver = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL);
  if (driver == nullptr) return 0;
  const auto ask = reinterpret_cast<int (*)(int*)>(dlsym(driver, "cuDriverGetVersion"));
  int version = 0;
  return ask != nullptr && ask(&version) == 0 ? version : 0;
}

const char* rp_unusable(void) {
  const int driver = driver_version();
  if (driver == 0) return "no CUDA driver";
  // Within one major version a newer runtime runs on an older driver.
  if (driver / 1000 < CUDART_VERSION / 1000)
    return "the CUDA driver is older than the toolkit this was built with";
  return nullptr;
}

bool rp_has_code_cuda(int major, int minor) {
  constexpr int built[] = {__CUDA_ARCH_LIST__};  // 750 for 7.5, ascending
  const int card = 100 * major + 10 * minor;
  int newest = 0;
  for (const int architecture : built) {
    // Machine code runs on later cards of the same major version.
    if (architecture / 100 == major && architecture <= card) return true;
    newest = architecture;
  }
  return card >= newest;  // of the last there is PTX, too
}

const char* rp_error_text(int code) {
  if (code == RP_BAD_TYPE) return "expected float32, float64 or, where allowed, half precision";
  if (code == RP_TOO_LARGE) return "a size is beyond what the kernel is written for";
  if (code == RP_OUT_OF_RANGE) return "a number of a row is out of range";
  return cudaGetErrorString(static_cast<cudaError_t>(code));
}
