// The NeuS opacity law on a run of intervals, sixteen at a time, on the CPU.
#pragma once

#include "neus.h"
#include "common/rows.h"

namespace renderpretrain {

// The arrays of a law's arguments, or of the gradients by them.
template <typename T>
struct NeusArrays {
  T *sdf, *cosines, *deltas;

  template <typename Void>
  NeusArrays(Void* sdf, Void* cosines, Void* deltas)
      : sdf(static_cast<T*>(sdf)), cosines(static_cast<T*>(cosines)), deltas(static_cast<T*>(deltas)) {}

  RP_HOST_DEVICE NeusArrays from(int64_t first) const {
    return {sdf + first, cosines + first, deltas + first};
  }
};

// run(first, count, sdf, cosines, deltas) on vectors of float, or on one double after the other.
template <typename T, typename Run>
RP_HOST_DEVICE void for_intervals(const NeusArrays<const T>& from, int64_t count, Run run) {
  if constexpr (std::is_same_v<T, float>) {
    for (int64_t i = 0; i < count; i += kLanes) {
      const int some = static_cast<int>(std::min<int64_t>(kLanes, count - i));
      run(i, some, load_up_to(from.sdf + i, some), load_up_to(from.cosines + i, some),
          load_up_to(from.deltas + i, some));
    }
  } else {
    for (int64_t i = 0; i < count; ++i) run(i, 1, from.sdf[i], from.cosines[i], from.deltas[i]);
  }
}

RP_HOST_DEVICE void put(float* to, Vector<float> value, int count) { store_up_to(to, value, count); }
RP_HOST_DEVICE void put(double* to, double value, int) { *to = value; }
RP_HOST_DEVICE Vector<float> take(const float* from, int count, Vector<float>) {
  return load_up_to(from, count);
}
RP_HOST_DEVICE double take(const double* from, int, double) { return *from; }

template <typename T>
RP_HOST_DEVICE void neus_row(const NeusArrays<const T>& from, T inv_s, int64_t count, T* alphas) {
  for_intervals<T>(from, count, [&](int64_t i, int some, auto sdf, auto cosines, auto deltas) {
    put(alphas + i, neus_alpha<T>(sdf, cosines, deltas, inv_s), some);
  });
}

// Returns the gradient by inv_s. grad may be one of the arrays in `to`.
template <typename T>
RP_HOST_DEVICE double neus_row_backward(const T* grad, const NeusArrays<const T>& from, T inv_s,
                                        int64_t count, const NeusArrays<T>& to) {
  std::conditional_t<std::is_same_v<T, float>, Vector<float>, double> by_inv_s{};
  for_intervals<T>(from, count, [&](int64_t i, int some, auto sdf, auto cosines, auto deltas) {
    const auto found = neus_alpha_backward<T>(take(grad + i, some, sdf), sdf, cosines, deltas, inv_s);
    put(to.sdf + i, found.sdf, some);
    put(to.cosines + i, found.cosines, some);
    put(to.deltas + i, found.deltas, some);
    by_inv_s += found.inv_s;
  });
  if constexpr (std::is_same_v<T, float>) return sum<float>(by_inv_s);
  else return by_inv_s;
}

inline double sum_parts(const double* parts, int64_t count) {
  double total = 0;
  for (int64_t i = 0; i < count; ++i) total += parts[i];
  return total;
}

}  // namespace renderpretrain
