// Values along rays: what summing them, compositing them and rendering signed distances share on the CPU.
#pragma once

#include "composite.h"
#include "rows.h"

namespace renderpretrain {

// The values (rays, samples, channels) of a batch of rays.
template <typename T, typename V>
struct RayValues {
  rp_rays rays;
  const V* values;

  RayValues(const rp_rays* rays, const void* values) : rays(*rays), values(static_cast<const V*>(values)) {}

  RP_HOST_DEVICE Rows<T, V> no_rows() const {
    return {rays.channels, values + rays.num_rays * rays.num_samples * rays.channels};
  }

  RP_HOST_DEVICE const V* row(int64_t ray, int64_t sample) const {
    return values + (ray * rays.num_samples + sample) * rays.channels;
  }

  // out (rays, channels) of this ray = its weighted sum. Values without a weight are not read.
  RP_HOST_DEVICE void sum(int64_t ray, const T* weights, T* out) const {
    out += ray * rays.channels;
    for (int64_t c = 0; c < rays.channels; ++c) out[c] = 0;
    if (rays.channels == 0) return;
    for (int64_t i = 0; i < rays.num_samples; i += kLanes) {
      Rows<T, V> rows = no_rows();
      const int count = static_cast<int>(std::min<int64_t>(kLanes, rays.num_samples - i));
      for (int k = 0; k < count; ++k) {
        if (weights[i + k] != 0) rows.add(row(ray, i + k), weights[i + k]);
      }
      if (rows.count > 0) add_rows(rows, out);
    }
  }

  // products[k] = <grad, values of sample first + samples[k]>, grad being this ray's of (rays, channels).
  RP_HOST_DEVICE void multiply(int64_t ray, const T* grad, int64_t first, const int* samples, int count,
                               T* products) const {
    Rows<T, V> rows = no_rows();
    for (int k = 0; k < count; ++k) rows.add(row(ray, first + samples[k]), T(0));
    multiply_rows(rows, grad + ray * rays.channels, products);
  }

  // grad_weights of this ray = <grad, values of each sample>.
  RP_HOST_DEVICE void multiply_all(int64_t ray, const T* grad, T* grad_weights) const {
    constexpr int kAll[kLanes] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
    for (int64_t i = 0; i < rays.num_samples; i += kLanes) {
      const int count = static_cast<int>(std::min<int64_t>(kLanes, rays.num_samples - i));
      T products[kLanes];
      multiply(ray, grad, i, kAll, count, products);
      std::copy_n(products, count, grad_weights + i);
    }
  }

  // grad_values (rays, samples, channels) of this ray = weights * grad.
  RP_HOST_DEVICE void spread(int64_t ray, const T* grad, const T* weights, T* grad_values) const {
    spread_row(grad + ray * rays.channels, rays.channels, weights, rays.num_samples,
               grad_values + ray * rays.num_samples * rays.channels);
  }
};

// Values with all that compositing them needs but the alphas.
template <typename T, typename V>
struct CompositeRays {
  RayValues<T, V> values;
  const T* t;
  const bool* valid;

  CompositeRays(const rp_rays* rays, const void* values, const void* t, const bool* valid)
      : values(rays, values), t(static_cast<const T*>(t)), valid(valid) {}

  RP_HOST_DEVICE T early_stop() const { return static_cast<T>(values.rays.early_stop); }
  RP_HOST_DEVICE const bool* valid_of(int64_t ray) const {
    return valid ? valid + ray * values.rays.num_samples : nullptr;
  }

  // The weights of this ray may lie where its alphas are.
  RP_HOST_DEVICE void forward(int64_t ray, const T* alphas, T* out, T* depth, T* opacity, T* weights) const {
    const int64_t num_samples = values.rays.num_samples;
    composite_ray(alphas, valid_of(ray), num_samples, early_stop(), weights);
    Vector<T> sums[4] = {};
    for (int64_t i = 0; i < num_samples; i += kLanes) {
      const int count = static_cast<int>(std::min<int64_t>(kLanes, num_samples - i));
      const Vector<T> weight = load_up_to(weights + i, count);
      const Vector<T> place = load_up_to(t + ray * num_samples + i, count);
      sums[0] += weight;
      sums[1] = fma<T>(weight, weight == T(0) ? Vector<T>{} : place, sums[1]);
    }
    T totals[4];
    sum_four<T>(sums, totals);
    opacity[ray] = totals[0];
    depth[ray] = totals[1] / (totals[0] + kOpacityEpsilon<T>);
    values.sum(ray, weights, out);
  }

  // From the last sample to the first: calls finish(first sample, count, gradients of the alphas).
  // `transmittances` is scratch of a ray's length that finish may overwrite.
  template <typename Finish>
  RP_HOST_DEVICE void backward(int64_t ray, const T* alphas, const RayGradients<T>& grads, T* transmittances,
                               Finish finish) const {
    const int64_t num_samples = values.rays.num_samples;
    const bool* const marks = valid_of(ray);
    const T* const places = t + ray * num_samples;
    const RayGradient<T> upstream = grads.of(ray, num_samples);
    const int64_t reach = trace_ray(alphas, marks, num_samples, early_stop(), transmittances);
    T behind = 0;
    for (int64_t i = (num_samples + kLanes - 1) / kLanes * kLanes - kLanes; i >= 0; i -= kLanes) {
      const int count = static_cast<int>(std::min<int64_t>(kLanes, num_samples - i));
      int seen[kLanes];
      int num_seen = 0;
      for (int k = 0; k < count; ++k) {
        seen[num_seen] = k;
        num_seen += i + k < reach && is_valid(marks, i + k);
      }
      T products[kLanes] = {}, grad_alphas[kLanes] = {};
      if (grads.grad_out) values.multiply(ray, grads.grad_out, i, seen, num_seen, products);
      for (int k = num_seen - 1; k >= 0; --k) {
        const int64_t j = i + seen[k];
        const T grad_weight = products[k] + upstream.at(j, places[j]);
        grad_alphas[seen[k]] = step_back(alphas[j], transmittances[j], grad_weight, &behind);
      }
      finish(i, count, grad_alphas);
    }
  }
};

}  // namespace renderpretrain
