// Values along rays on CUDA: a thread per channel of a ray to sum them, a warp per sample to multiply them
// with a gradient, a warp per ray for what has one number per sample.
#pragma once

#include "composite_cuda.h"

namespace renderpretrain {

// The values of a batch of rays.
template <typename V>
struct ValuesOnRays {
  int64_t num_rays, num_samples, channels;
  const V* values;

  ValuesOnRays(const rp_rays& rays, const void* values)
      : num_rays(rays.num_rays),
        num_samples(rays.num_samples),
        channels(rays.channels),
        values(static_cast<const V*>(values)) {}
};

// out (rays, channels) = the weighted sums. Values without a weight are not read.
template <typename T, typename V>
__global__ void sum_values_kernel(ValuesOnRays<V> rays, const T* weights, T* out) {
  const int64_t thread = thread_index();
  if (thread >= rays.num_rays * rays.channels) return;
  const int64_t ray = thread / rays.channels, channel = thread % rays.channels;
  const T* const weight = weights + ray * rays.num_samples;
  const V* const value = rays.values + ray * rays.num_samples * rays.channels + channel;
  T total = 0;
  for (int64_t i = 0; i < rays.num_samples; ++i) {
    if (weight[i] != 0) total += weight[i] * to_float(value[i * rays.channels]);
  }
  out[thread] = total;
}

// Per sample: grad_weights = <grad_out, values>, zero and unread where not valid, and
// grad_values = weights * grad_out. Either result may be null, as may valid.
template <typename T, typename V>
__global__ void multiply_values_kernel(ValuesOnRays<V> rays, const bool* valid, const T* grad_out,
                                       const T* weights, T* grad_weights, T* grad_values) {
  const int64_t sample = thread_index() / kWarp;
  const int lane = static_cast<int>(threadIdx.x % kWarp);
  if (sample >= rays.num_rays * rays.num_samples) return;  // whole warps leave together
  const T* const grad = grad_out + sample / rays.num_samples * rays.channels;
  const int64_t row = sample * rays.channels;
  if (grad_weights != nullptr) {
    T product = 0;
    for (int64_t c = lane; c < rays.channels && is_valid(valid, sample); c += kWarp) {
      product += grad[c] * to_float(rays.values[row + c]);
    }
    product = sum_of_lanes(product);
    if (lane == 0) grad_weights[sample] = product;
  }
  if (grad_values != nullptr) {
    for (int64_t c = lane; c < rays.channels; c += kWarp) grad_values[row + c] = weights[sample] * grad[c];
  }
}

template <typename T, typename V>
int sum_values(const rp_rays& rays, const void* values, const T* weights, void* out, void* stream) {
  return launch(sum_values_kernel<T, V>, rays.num_rays * rays.channels, stream, ValuesOnRays<V>(rays, values),
                weights, static_cast<T*>(out));
}

template <typename T, typename V>
int multiply_values(const rp_rays& rays, const void* values, const bool* valid, const void* grad_out,
                    const void* weights, void* grad_weights, void* grad_values, void* stream) {
  return launch(multiply_values_kernel<T, V>, rays.num_rays * rays.num_samples * kWarp, stream,
                ValuesOnRays<V>(rays, values), valid, static_cast<const T*>(grad_out),
                static_cast<const T*>(weights), static_cast<T*>(grad_weights), static_cast<T*>(grad_values));
}

// Opacities that are in memory; other operators compute them where they are composited.
template <typename T>
struct GivenAlphas {
  const T* alphas;

  __device__ T operator()(int64_t i) const { return alphas[i]; }
};

// A warp per ray: weights, expected t and opacity.
template <typename T, typename Alphas>
__global__ void composite_outputs_kernel(rp_rays rays, Alphas alphas, const T* t, const bool* valid, T* depth,
                                         T* opacity, T* weights) {
  const int64_t ray = thread_index() / kWarp, row = ray * rays.num_samples;
  if (ray >= rays.num_rays) return;  // whole warps leave together
  T total = 0, along = 0;
  composite_by_warp([=](int64_t i) { return alphas(row + i); }, valid ? valid + row : nullptr,
                    rays.num_samples, static_cast<T>(rays.early_stop),
                    [&](int64_t i, T weight) {
                      weights[row + i] = weight;
                      total += weight;
                      if (weight != 0) along += weight * t[row + i];
                    });
  total = sum_of_lanes(total);
  along = sum_of_lanes(along);
  if (threadIdx.x % kWarp != 0) return;
  opacity[ray] = total;
  depth[ray] = along / (total + kOpacityEpsilon<T>);
}

template <typename T, typename V, typename Alphas>
int composite_outputs(const rp_rays& rays, const Alphas& alphas, const void* values, const void* t,
                      const bool* valid, void* out, void* depth, void* opacity, void* weights, void* stream) {
  const int code = launch(composite_outputs_kernel<T, Alphas>, rays.num_rays * kWarp, stream, rays, alphas,
                          static_cast<const T*>(t), valid, static_cast<T*>(depth), static_cast<T*>(opacity),
                          static_cast<T*>(weights));
  if (code != RP_OK) return code;
  return sum_values<T, V>(rays, values, static_cast<const T*>(weights), out, stream);
}

// A warp per ray. grad_weights is the part that the values say.
template <typename T>
__global__ void composite_outputs_backward_kernel(rp_rays rays, const T* alphas, const T* t,
                                                  const bool* valid, RayGradients<T> grads,
                                                  const T* grad_weights, T* grad_alphas) {
  const int64_t ray = thread_index() / kWarp, row = ray * rays.num_samples;
  if (ray >= rays.num_rays) return;  // whole warps leave together
  const RayGradient<T> upstream = grads.of(ray, rays.num_samples);
  const auto grad = [&](int64_t i) {
    return (grads.grad_out ? grad_weights[row + i] : T(0)) + upstream.at(i, t[row + i]);
  };
  composite_by_warp_backward(grad, alphas + row, valid ? valid + row : nullptr, rays.num_samples,
                             static_cast<T>(rays.early_stop), grad_alphas + row);
}

// grad_weights is scratch, as large as the alphas.
template <typename T, typename V>
int composite_outputs_backward(const rp_rays& rays, const T* alphas, const void* values, const void* t,
                               const bool* valid, const void* weights, const RayGradients<T>& grads,
                               T* grad_weights, T* grad_alphas, void* grad_values, void* stream) {
  if (grads.grad_out) {
    const int code = multiply_values<T, V>(rays, values, valid, grads.grad_out, weights, grad_weights,
                                           grad_values, stream);
    if (code != RP_OK) return code;
  }
  return launch(composite_outputs_backward_kernel<T>, rays.num_rays * kWarp, stream, rays, alphas,
                static_cast<const T*>(t), valid, grads, static_cast<const T*>(grad_weights), grad_alphas);
}

}  // namespace renderpretrain
