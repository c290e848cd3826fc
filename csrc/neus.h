// The NeuS opacity law: the arithmetic both devices share.
#pragma once

#include <cmath>

#include "common/host_device.h"

#ifndef __CUDACC__
#include "common/vector_math.h"
#endif

namespace renderpretrain {

using std::exp;

// Keeps the quotient finite where the logistic CDF underflows.
template <typename T>
constexpr T kAlphaEpsilon = static_cast<T>(1e-5);

// One interval or, with V a vector of T, several. f is the signed distance where a ray enters and leaves the
// interval, value the logistic CDF there and slope its derivative by f * inv_s, which has no cancellation.
template <typename V>
struct Ends {
  V falling, f[2], value[2], slope[2];
};

template <typename T, typename V>
RP_HOST_DEVICE Ends<V> ends_of_interval(V sdf, V cosines, V deltas, T inv_s) {
  Ends<V> ends;
  ends.falling = cosines > T(0) ? V{} : cosines;
  const V drop = ends.falling * deltas * T(0.5);
  ends.f[0] = sdf - drop;
  ends.f[1] = sdf + drop;
  for (int i = 0; i < 2; ++i) {
    const V x = ends.f[i] * inv_s;
    const V away = x > T(0) ? -x : x;
    // Further away the CDF is nothing beside its epsilon, and products of it would be denormal numbers.
    const V power = away < T(-80) ? V{} : exp(away);
    const V large = T(1) / (T(1) + power);
    const V small = power * large;
    ends.value[i] = x > T(0) ? large : small;
    ends.slope[i] = small * large;
  }
  return ends;
}

// (before - after + epsilon) / (before + epsilon), not yet clipped.
template <typename T, typename V>
RP_HOST_DEVICE V drop_of_cdf(const Ends<V>& ends) {
  return (ends.value[0] - ends.value[1] + kAlphaEpsilon<T>) / (ends.value[0] + kAlphaEpsilon<T>);
}

template <typename T, typename V>
RP_HOST_DEVICE V neus_alpha(V sdf, V cosines, V deltas, T inv_s) {
  const V alpha = drop_of_cdf<T>(ends_of_interval(sdf, cosines, deltas, inv_s));
  const V positive = alpha < T(0) ? V{} : alpha;
  return positive > T(1) ? V{} + T(1) : positive;
}

template <typename V>
struct NeusGradient {
  V sdf, cosines, deltas, inv_s;
};

// The bounds of the clip let the gradient pass, as torch.clamp does. Where no gradient comes none leaves, be
// the interval's numbers NaN.
template <typename T, typename V>
RP_HOST_DEVICE NeusGradient<V> neus_alpha_backward(V grad, V sdf, V cosines, V deltas, T inv_s) {
  const Ends<V> ends = ends_of_interval(sdf, cosines, deltas, inv_s);
  const V alpha = drop_of_cdf<T>(ends);
  V passed = alpha < T(0) ? V{} : grad;
  passed = alpha > T(1) ? V{} : passed;
  const V share = T(1) / (ends.value[0] + kAlphaEpsilon<T>);
  const V enter = passed * share * (ends.value[1] * share) * ends.slope[0];
  const V leave = -passed * share * ends.slope[1];
  const V along = (leave - enter) * inv_s * T(0.5);
  NeusGradient<V> out;
  out.sdf = passed == T(0) ? V{} : (enter + leave) * inv_s;
  out.cosines = cosines > T(0) || passed == T(0) ? V{} : along * deltas;
  out.deltas = passed == T(0) ? V{} : along * ends.falling;
  out.inv_s = passed == T(0) ? V{} : enter * ends.f[0] + leave * ends.f[1];
  return out;
}

}  // namespace renderpretrain
