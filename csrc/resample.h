// Quantiles of a histogram: the arithmetic both devices share.
#pragma once

#include "common/host_device.h"

namespace renderpretrain {

// First i in [0, count) with cdf[i] > target; count if there is none. As many rounds for every target, and
// none with a branch that a CPU could mispredict: quantiles come in any order.
RP_HOST_DEVICE int64_t first_above(const double* cdf, int64_t count, double target) {
  const double* low = cdf;
  while (count > 1) {
    const int64_t half = count / 2;
    low += half & -static_cast<int64_t>(low[half - 1] <= target);
    count -= half;
  }
  return low - cdf + (*low <= target);
}

// Bins without any mass all get the same.
RP_HOST_DEVICE void spread_evenly(int64_t num_bins, double* cdf) {
  for (int64_t i = 0; i < num_bins; ++i) cdf[i] = static_cast<double>(i + 1);
}

// cdf[i] = mass of the bins up to and including i.
template <typename T>
RP_HOST_DEVICE void accumulate_mass(const T* weights, int64_t num_bins, double* cdf) {
  double total = 0;
  for (int64_t i = 0; i < num_bins; ++i) {
    total += weights[i] > 0 ? static_cast<double>(weights[i]) : 0.0;
    cdf[i] = total;
  }
  if (!(total > 0)) spread_evenly(num_bins, cdf);
}

// The mass below the quantile u.
template <typename T>
RP_HOST_DEVICE double target_of(const double* cdf, int64_t num_bins, T u) {
  return (u > 0 ? (u < 1 ? static_cast<double>(u) : 1.0) : 0.0) * cdf[num_bins - 1];
}

// The place of the quantile with this mass below it, found in bin i by cdf[i] > target, and its bin. Such a
// bin has mass: cdf[i - 1] <= target < cdf[i]. Where rounding or u = 1 leaves none, i is num_bins, and the
// quantile is the upper edge of the last bin with mass.
template <typename T>
RP_HOST_DEVICE T place_of(const T* edges, const double* cdf, int64_t num_bins, double target, int64_t i,
                          int64_t* bin) {
  if (i == num_bins) {
    for (--i; i > 0 && cdf[i - 1] == cdf[num_bins - 1];) --i;
    *bin = i;
    return edges[i + 1];
  }
  *bin = i;
  const double before = i > 0 ? cdf[i - 1] : 0.0;
  const double fraction = (target - before) / (cdf[i] - before);
  const double low = edges[i], high = edges[i + 1];
  const double position = low + fraction * (high - low);
  return static_cast<T>(position > high ? high : position);
}

// The quantile u and its bin.
template <typename T>
RP_HOST_DEVICE T quantile(const T* edges, const double* cdf, int64_t num_bins, T u, int64_t* bin) {
  const double target = target_of(cdf, num_bins, u);
  return place_of(edges, cdf, num_bins, target, first_above(cdf, num_bins, target), bin);
}

// Quantiles that a CPU searches together: the loads of one search wait for each other, those of several do
// not.
constexpr int kTogether = 8;

// first_above() of kTogether targets.
RP_HOST_DEVICE void first_above_each(const double* cdf, int64_t count, const double* targets,
                                     int64_t* found) {
  for (int k = 0; k < kTogether; ++k) found[k] = 0;
  while (count > 1) {
    const int64_t half = count / 2;
    for (int k = 0; k < kTogether; ++k) {
      found[k] += half & -static_cast<int64_t>(cdf[found[k] + half - 1] <= targets[k]);
    }
    count -= half;
  }
  for (int k = 0; k < kTogether; ++k) found[k] += cdf[found[k]] <= targets[k];
}

// quantile() of u[0] to u[count - 1], count <= kTogether.
template <typename T>
RP_HOST_DEVICE void quantiles(const T* edges, const double* cdf, int64_t num_bins, const T* u, int count,
                              T* positions, int64_t* bins) {
  double targets[kTogether] = {};
  for (int k = 0; k < count; ++k) targets[k] = target_of(cdf, num_bins, u[k]);
  int64_t found[kTogether];
  first_above_each(cdf, num_bins, targets, found);
  for (int k = 0; k < count; ++k) {
    positions[k] = place_of(edges, cdf, num_bins, targets[k], found[k], bins + k);
  }
}

}  // namespace renderpretrain
