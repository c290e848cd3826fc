// Forward a block per cell, backward a warp per pixel; lanes go over channels, and every sum has one order.
#include "lss_pool.h"
#include "common/warp_cuda.h"

namespace renderpretrain {

constexpr int kWarps = kThreads / kWarp;
constexpr int kRegisters = 4;  // channels of a lane at a time
constexpr int64_t kTogether = kWarp * kRegisters;

// What a plan may name: nobody has looked at it on this device.
struct Limits {
  int64_t cells, pixels, points;

  explicit Limits(const rp_frustum& frustum)
      : cells(frustum.num_cells),
        pixels(frustum.num_images * frustum.height * frustum.width),
        points(pixels * frustum.num_bins) {}
};

// The warps of a block take every eighth point of its cell, and their sums are added in order of the warps.
template <typename T, typename V>
__global__ void lss_pool_kernel(const T* depth, const V* features, const int32_t* order,
                                const int32_t* starts, const int32_t* pixels, const int32_t* bins,
                                Frustum frustum, Limits limits, T* out) {
  __shared__ T part[kWarps][kTogether];
  const int warp = threadIdx.x / kWarp, lane = threadIdx.x % kWarp;
  const int64_t cell = order[blockIdx.x];
  if (cell < 0 || cell >= limits.cells) return;  // the whole block
  const int64_t begin = starts[blockIdx.x] > 0 ? starts[blockIdx.x] : 0;
  const int64_t end = starts[blockIdx.x + 1] < limits.points ? starts[blockIdx.x + 1] : limits.points;
  const int64_t channels = frustum.channels;
  for (int64_t c = 0; c < channels; c += kTogether) {
    T total[kRegisters] = {};
    for (int64_t i = begin + warp; i < end; i += kWarps) {
      const int64_t pixel = pixels[i], bin = bins[i];
      if (pixel < 0 || pixel >= limits.pixels || bin < 0 || bin >= frustum.num_bins) continue;
      const T weight = depth[frustum.place(pixel, bin)];
      const V* const feature = features + pixel * channels + c;
      for (int r = 0; r < kRegisters; ++r) {
        const int64_t channel = lane + r * kWarp;
        if (c + channel < channels) total[r] += weight * to_float(feature[channel]);
      }
    }
    for (int r = 0; r < kRegisters; ++r) part[warp][lane + r * kWarp] = total[r];
    __syncthreads();
    const int64_t channel = threadIdx.x;
    if (channel < kTogether && c + channel < channels) {
      T sum = 0;
      for (int w = 0; w < kWarps; ++w) sum += part[w][channel];
      out[cell * channels + c + channel] = sum;
    }
    __syncthreads();
  }
}

template <typename T, typename V>
__global__ void lss_pool_backward_kernel(const T* grad, const T* depth, const V* features,
                                         const int32_t* cells, Frustum frustum, Limits limits, T* grad_depth,
                                         T* grad_features) {
  const int64_t pixel = thread_index() / kWarp;
  if (pixel >= limits.pixels) return;  // whole warps leave together
  const int lane = threadIdx.x % kWarp;
  const int64_t channels = frustum.channels, place = frustum.place(pixel, 0);
  for (int64_t c = 0; c < channels; c += kTogether) {
    T feature[kRegisters] = {}, total[kRegisters] = {};
    for (int r = 0; r < kRegisters; ++r) {
      const int64_t channel = c + lane + r * kWarp;
      if (channel < channels) feature[r] = to_float(features[pixel * channels + channel]);
    }
    for (int64_t bin = 0; bin < frustum.num_bins; ++bin) {
      const int64_t cell = cells[pixel * frustum.num_bins + bin], here = place + bin * frustum.bin_stride;
      T product = 0;
      if (cell >= 0 && cell < limits.cells) {
        const T weight = depth[here];
        for (int r = 0; r < kRegisters; ++r) {
          const int64_t channel = c + lane + r * kWarp;
          const T value = channel < channels ? grad[cell * channels + channel] : T(0);
          total[r] += weight * value;
          product += feature[r] * value;
        }
        product = sum_of_lanes(product);
      }
      if (grad_depth && lane == 0) grad_depth[here] = c == 0 ? product : grad_depth[here] + product;
    }
    for (int r = 0; r < kRegisters && grad_features; ++r) {
      const int64_t channel = c + lane + r * kWarp;
      if (channel < channels) grad_features[pixel * channels + channel] = total[r];
    }
  }
}

}  // namespace renderpretrain

using namespace renderpretrain;

int rp_lss_pool_cuda(int64_t type, const void* depth, int64_t stored_type, const void* features,
                     const int32_t* order, const int32_t* starts, const int32_t* pixels, const int32_t* bins,
                     const rp_frustum* frustum, void* out, void* stream) {
  return with_types(type, stored_type, [&](auto zero, auto stored) {
    using T = decltype(zero);
    using V = decltype(stored);
    return launch(lss_pool_kernel<T, V>, frustum->num_cells * kThreads, stream, static_cast<const T*>(depth),
                  static_cast<const V*>(features), order, starts, pixels, bins, Frustum(*frustum),
                  Limits(*frustum), static_cast<T*>(out));
  });
}

int rp_lss_pool_backward_cuda(int64_t type, const void* grad, const void* depth, int64_t stored_type,
                              const void* features, const int32_t* cells, const rp_frustum* frustum,
                              void* grad_depth, void* grad_features, void* stream) {
  return with_types(type, stored_type, [&](auto zero, auto stored) {
    using T = decltype(zero);
    using V = decltype(stored);
    const Limits limits(*frustum);
    return launch(lss_pool_backward_kernel<T, V>, limits.pixels * kWarp, stream, static_cast<const T*>(grad),
                  static_cast<const T*>(depth), static_cast<const V*>(features), cells, Frustum(*frustum),
                  limits, static_cast<T*>(grad_depth), static_cast<T*>(grad_features));
  });
}
