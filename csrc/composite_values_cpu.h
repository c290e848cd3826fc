// Values along rays: what summing them, compositing them and rendering signed distances share on the CPU.
#pragma once

#include "composite_cpu.h"

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

  // products[i] = <grad, values of sample i> for i < count, grad being this ray's of (rays, channels); those
  // that are not valid get zero and are not read. `valid` is this ray's, or null.
  RP_HOST_DEVICE void multiply(int64_t ray, const T* grad, const bool* valid, int64_t count,
                               T* products) const {
    for (int64_t first = 0; first < count; first += kLanes) {
      const int some = static_cast<int>(std::min<int64_t>(kLanes, count - first));
      Rows<T, V> rows = no_rows();
      int place[kLanes];
      for (int k = 0; k < some; ++k) {
        place[rows.count] = k;
        if (valid == nullptr || valid[first + k]) rows.add(row(ray, first + k), T(0));
      }
      T found[kLanes];
      multiply_rows(rows, grad + ray * rays.channels, found);
      if (rows.count < some) std::fill_n(products + first, some, T(0));
      for (int k = 0; k < rows.count; ++k) products[first + place[k]] = found[k];
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

  template <typename Run>
  int for_groups(int64_t num_threads, Run run) const {
    const rp_rays& rays = values.rays;
    return renderpretrain::for_groups<T>(rays.num_rays, rays.num_samples, valid, rays.early_stop, num_threads,
                                         run);
  }

  // Outputs start at the first ray of all, alphas and weights at the group's; these may be the same memory.
  RP_HOST_DEVICE void forward(const RayGroup<T>& group, int64_t first_ray, const T* alphas, T* out, T* depth,
                              T* opacity, T* weights) const {
    group.composite(alphas, weights);
    for (int64_t ray = first_ray; ray < first_ray + group.num_rays; ++ray, weights += group.num_samples) {
      Vector<T> sums[4] = {};
      for (int64_t i = 0; i < group.num_samples; i += kLanes) {
        const int count = static_cast<int>(std::min<int64_t>(kLanes, group.num_samples - i));
        const Vector<T> weight = load_up_to(weights + i, count);
        const Vector<T> place = load_up_to(t + ray * group.num_samples + i, count);
        sums[0] += weight;
        sums[1] = fma<T>(weight, weight == T(0) ? Vector<T>{} : place, sums[1]);
      }
      T totals[4];
      sum_four<T>(sums, totals);
      opacity[ray] = totals[0];
      depth[ray] = totals[1] / (totals[0] + kOpacityEpsilon<T>);
      values.sum(ray, weights, out);
    }
  }

  // grad_alphas starts at the group's first ray, scratch at the first of all.
  RP_HOST_DEVICE void backward(const RayGroup<T>& group, int64_t first_ray, const T* alphas,
                               const RayGradients<T>& grads, T* scratch, T* grad_alphas) const {
    T* const transmittances = scratch + first_ray * group.num_tiles();
    int64_t reach[kLanes];
    group.trace(alphas, transmittances, reach);
    for (int64_t k = 0; k < group.num_rays; ++k) {
      T* const row = grad_alphas + k * group.num_samples;
      grad_weights(group, first_ray, k, grads, reach[k], row);
      std::fill(row + reach[k], row + group.num_samples, T(0));
    }
    group.go_back(alphas, transmittances, grad_alphas);
  }

  // grad_values, unless null; both arrays start at the first ray of all.
  RP_HOST_DEVICE void spread(const RayGroup<T>& group, int64_t first_ray, const RayGradients<T>& grads,
                             const T* weights, T* grad_values) const {
    if (grad_values == nullptr) return;
    for (int64_t ray = first_ray; ray < first_ray + group.num_rays; ++ray) {
      values.spread(ray, grads.grad_out, weights + ray * group.num_samples, grad_values);
    }
  }

  // Of the first `count` samples of ray `first_ray + k`, by all outputs.
  RP_HOST_DEVICE void grad_weights(const RayGroup<T>& group, int64_t first_ray, int64_t k,
                                   const RayGradients<T>& grads, int64_t count, T* out) const {
    const int64_t ray = first_ray + k;
    const RayGradient<T> upstream = grads.of(ray, group.num_samples);
    if (grads.grad_out) {
      const bool* const marks = group.valid ? group.valid + k * group.num_samples : nullptr;
      values.multiply(ray, grads.grad_out, marks, count, out);
    } else {
      std::fill_n(out, count, T(0));
    }
    for (int64_t i = 0; i < count; ++i) out[i] += upstream.at(i, t[ray * group.num_samples + i]);
  }
};

}  // namespace renderpretrain
