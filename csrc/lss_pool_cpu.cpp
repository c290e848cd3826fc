// One owner per sum: forward a cell, backward a pixel. Up to eight vectors of channels are summed in registers.
#include "lss_pool.h"

#include <algorithm>

#include "parallel.h"
#include "vector.h"

using namespace renderpretrain;

namespace {

constexpr int64_t kCells = 64;          // of one range; tens of microseconds of work
constexpr int64_t kColumns = 4;         // of one range
constexpr int64_t kTogether = 64;       // points whose places are found at once
constexpr int kMostVectors = 8;         // sums and features of a pixel fit 32 registers
constexpr int64_t kMostChannels = kMostVectors * kLanes;

// A run of channels, whole vectors but for the last.
template <int kVectors>
struct Channels {
  int rest;  // channels of the last vector if it is not whole, else zero

  template <typename V>
  RP_HOST_DEVICE auto read(const V* row, int v) const {
    row += v * kLanes;
    return v == kVectors - 1 && rest ? load_some(row, rest) : load(row);
  }

  template <typename T>
  RP_HOST_DEVICE void write(T* row, int v, Vector<T> value) const {
    row += v * kLanes;
    if (v == kVectors - 1 && rest) {
      store_some(row, value, rest);
    } else {
      store(row, value);
    }
  }
};

// Calls run(first channel, Channels<n>) on runs that tile the channels.
template <int kVectors = kMostVectors, typename Run>
RP_HOST_DEVICE void in_runs(int64_t begin, int64_t end, const Run& run) {
  if constexpr (kVectors == kMostVectors) {
    for (; end - begin >= kMostChannels; begin += kMostChannels) run(begin, Channels<kVectors>{0});
  }
  if constexpr (kVectors > 0) {
    if (end - begin > (kVectors - 1) * kLanes) {
      run(begin, Channels<kVectors>{static_cast<int>((end - begin) % kLanes)});
    } else {
      in_runs<kVectors - 1>(begin, end, run);
    }
  }
}

template <typename T, typename V>
struct Forward {
  Frustum frustum;
  const T* depth;
  const V* features;
  const int32_t *points, *starts, *order;
  T* out;

  void run(int64_t begin, int64_t end) const {
    for (int64_t i = begin; i < end; ++i) {
      const int64_t cell = order[i], end_of_cell = starts[cell + 1];
      T* const row = out + cell * frustum.channels;
      std::fill(row, row + frustum.channels, T(0));
      for (int64_t first = starts[cell]; first < end_of_cell; first += kTogether) {
        add(first, std::min(kTogether, end_of_cell - first), row);
      }
    }
  }

  void add(int64_t first, int64_t count, T* row) const {
    int64_t pixel[kTogether];
    T weight[kTogether];
    for (int64_t j = 0; j < count; ++j) {
      const Lifted lifted = frustum.lift(points[first + j]);
      pixel[j] = lifted.pixel * frustum.channels;
      weight[j] = depth[lifted.place];
    }
    in_runs(0, frustum.channels, [&](int64_t c, auto channels) { sum(pixel, weight, count, row + c, c, channels); });
  }

  template <int kVectors>
  void sum(const int64_t* pixel, const T* weight, int64_t count, T* row, int64_t c, Channels<kVectors> channels) const {
    Vector<T> total[kVectors];
    for (int v = 0; v < kVectors; ++v) total[v] = channels.read(row, v);
    for (int64_t j = 0; j < count; ++j) {
      const V* const feature = features + pixel[j] + c;
      const Vector<T> w = fill(weight[j]);
      for (int v = 0; v < kVectors; ++v) total[v] = fma<T>(w, channels.read(feature, v), total[v]);
    }
    for (int v = 0; v < kVectors; ++v) channels.write(row, v, total[v]);
  }
};

template <typename T, typename V>
struct Backward {
  Frustum frustum;
  int64_t height, width;
  const T *grad, *depth;
  const V* features;
  const int32_t* cells;
  T *grad_depth, *grad_features;

  // Columns, for what is above each other in an image shares cells.
  void run(int64_t begin, int64_t end) const {
    for (int64_t column = begin; column < end; ++column) {
      for (int64_t y = 0; y < height; ++y) {
        const int64_t pixel = (column / width * height + y) * width + column % width;
        in_runs(0, frustum.channels, [&](int64_t c, auto channels) { pull(pixel, c, channels); });
      }
    }
  }

  template <int kVectors>
  void pull(int64_t pixel, int64_t c, Channels<kVectors> channels) const {
    const int64_t row = pixel * frustum.channels + c, place = frustum.first_place(pixel);
    Vector<T> feature[kVectors], total[kVectors] = {};
    for (int v = 0; v < kVectors; ++v) feature[v] = channels.read(features + row, v);
    for (int64_t bin = 0; bin < frustum.num_bins; ++bin) {
      const int64_t cell = cells[pixel * frustum.num_bins + bin], here = place + bin * frustum.bin_stride;
      T product = 0;
      if (cell >= 0) {
        const T* const from = grad + cell * frustum.channels + c;
        const Vector<T> w = fill(depth[here]);
        Vector<T> products{};
        for (int v = 0; v < kVectors; ++v) {
          const Vector<T> value = channels.read(from, v);
          total[v] = fma<T>(w, value, total[v]);
          products = fma<T>(feature[v], value, products);
        }
        product = renderpretrain::sum<T>(products);
      }
      if (grad_depth) grad_depth[here] = c == 0 ? product : grad_depth[here] + product;
    }
    if (!grad_features) return;
    for (int v = 0; v < kVectors; ++v) channels.write(grad_features + row, v, total[v]);
  }
};

}  // namespace

int rp_lss_pool_cpu(int64_t type, const void* depth, int64_t stored_type, const void* features, const int32_t* points,
                    const int32_t* starts, const int32_t* order, const rp_frustum* frustum, void* out,
                    int64_t num_threads) {
  return with_types(type, stored_type, [&](auto zero, auto stored) {
    using T = decltype(zero);
    using V = decltype(stored);
    const Forward<T, V> work{Frustum(*frustum), static_cast<const T*>(depth), static_cast<const V*>(features),
                             points, starts, order, static_cast<T*>(out)};
    return parallel_for(frustum->num_cells, kCells, num_threads,
                        [&](int64_t begin, int64_t end) { work.run(begin, end); });
  });
}

int rp_lss_pool_backward_cpu(int64_t type, const void* grad, const void* depth, int64_t stored_type,
                             const void* features, const int32_t* cells, const rp_frustum* frustum,
                             void* grad_depth, void* grad_features, int64_t num_threads) {
  return with_types(type, stored_type, [&](auto zero, auto stored) {
    using T = decltype(zero);
    using V = decltype(stored);
    const Backward<T, V> work{Frustum(*frustum),
                              frustum->height,
                              frustum->width,
                              static_cast<const T*>(grad),
                              static_cast<const T*>(depth),
                              static_cast<const V*>(features),
                              cells,
                              static_cast<T*>(grad_depth),
                              static_cast<T*>(grad_features)};
    return parallel_for(frustum->num_images * frustum->width, kColumns, num_threads,
                        [&](int64_t begin, int64_t end) { work.run(begin, end); });
  });
}
