// A thread per cell and channel walks the cell's points, so that neighbouring threads read neighbouring
// channels and sums have the order of the points without atomics.
#include "common/launch_cuda.h"
#include "voxel_scatter.h"

namespace renderpretrain {

template <typename T, typename V>
__global__ void scatter_kernel(const V* values, const int32_t* order, const int32_t* offsets,
                               int64_t num_points, int64_t num_cells, int64_t channels, int64_t reduce,
                               T* out) {
  const int64_t thread = thread_index();
  const int64_t cell = thread / channels, c = thread % channels;
  if (cell >= num_cells) return;
  const int64_t begin = place_of(offsets[cell], num_points), end = place_of(offsets[cell + 1], num_points);
  T total = 0;
  bool is_first = true;
  for (int64_t i = begin; i < end; ++i) {
    const int32_t row = order[i];
    if (!is_row(row, num_points)) continue;
    const T value = to_float(values[row * channels + c]);
    if (is_first) {
      total = value;
    } else if (reduce == RP_MAX) {
      total = replaces(value, total) ? value : total;
    } else {
      total += value;
    }
    is_first = false;
  }
  out[thread] = reduce == RP_MEAN && begin < end ? total / static_cast<T>(end - begin) : total;
}

template <typename T, typename V>
__global__ void scatter_backward_kernel(const T* grad, const V* values, const int32_t* order,
                                        const int32_t* offsets, int64_t num_points, int64_t num_cells,
                                        int64_t channels, int64_t reduce, T* grad_values) {
  const int64_t thread = thread_index();
  const int64_t cell = thread / channels, c = thread % channels;
  if (cell >= num_cells) return;
  const int64_t begin = place_of(offsets[cell], num_points), end = place_of(offsets[cell + 1], num_points);
  if (begin >= end) return;
  int64_t winner = -1;
  if (reduce == RP_MAX) {
    T best = 0;
    for (int64_t i = begin; i < end; ++i) {
      const int32_t row = order[i];
      if (!is_row(row, num_points)) continue;
      const T value = to_float(values[row * channels + c]);
      if (winner >= 0 && !replaces(value, best)) continue;
      best = value;
      winner = i;
    }
  }
  const T share = reduce == RP_MEAN ? grad[thread] / static_cast<T>(end - begin) : grad[thread];
  for (int64_t i = begin; i < end; ++i) {
    const int32_t row = order[i];
    if (is_row(row, num_points)) {
      grad_values[row * channels + c] = reduce != RP_MAX || i == winner ? share : T(0);
    }
  }
}

// Points without a cell: those behind the last cell's.
template <typename T>
__global__ void clear_kernel(const int32_t* order, const int32_t* kept, int64_t num_points, int64_t channels,
                             T* grad_values) {
  const int64_t thread = thread_index();
  const int64_t place = thread / channels;
  if (place < *kept || place >= num_points) return;
  const int32_t row = order[place];
  if (is_row(row, num_points)) grad_values[row * channels + thread % channels] = 0;
}

}  // namespace renderpretrain

using namespace renderpretrain;

int rp_voxel_scatter_cuda(int64_t type, void* out, int64_t stored_type, const void* values,
                          const int32_t* order, const int32_t* offsets, int64_t num_points, int64_t num_cells,
                          int64_t channels, int64_t reduce, void* stream) {
  return with_types(type, stored_type, [&](auto zero, auto stored) {
    using T = decltype(zero);
    using V = decltype(stored);
    return launch(scatter_kernel<T, V>, num_cells * channels, stream, static_cast<const V*>(values), order,
                  offsets, num_points, num_cells, channels, reduce, static_cast<T*>(out));
  });
}

int rp_voxel_scatter_backward_cuda(int64_t type, const void* grad, int64_t stored_type, const void* values,
                                   const int32_t* order, const int32_t* offsets, int64_t num_points,
                                   int64_t num_cells, int64_t channels, int64_t reduce, void* grad_values,
                                   void* stream) {
  return with_types(type, stored_type, [&](auto zero, auto stored) {
    using T = decltype(zero);
    using V = decltype(stored);
    T* const out = static_cast<T*>(grad_values);
    const int code = launch(clear_kernel<T>, num_points * channels, stream, order, offsets + num_cells,
                            num_points, channels, out);
    if (code != RP_OK) return code;
    return launch(scatter_backward_kernel<T, V>, num_cells * channels, stream, static_cast<const T*>(grad),
                  static_cast<const V*>(values), order, offsets, num_points, num_cells, channels, reduce,
                  out);
  });
}
