// One owner per sum, forward a cell, backward a pixel; up to eight vectors of channels stay in registers.
#include "lss_pool.h"

#include <algorithm>

#include "common/parallel.h"
#include "common/vector.h"

using namespace renderpretrain;

namespace {

constexpr int64_t kCells = 64;   // of one range; tens of microseconds of work
constexpr int64_t kColumns = 8;  // of an image, that one owner walks together
constexpr int kMostVectors = 8;  // sums and features of a pixel fit 32 registers
constexpr int64_t kMostChannels = kMostVectors * kLanes;

// run(0), ..., run(count - 1) with constants, so that arrays of vectors stay in registers.
template <int kCount, int kFirst = 0, typename Run>
RP_HOST_DEVICE void unrolled(const Run& run) {
  if constexpr (kFirst < kCount) {
    run(std::integral_constant<int, kFirst>{});
    unrolled<kCount, kFirst + 1>(run);
  }
}

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
  const int32_t *order, *starts, *pixels, *bins;
  T* out;

  void run(int64_t begin, int64_t end) const {
    for (int64_t turn = begin; turn < end; ++turn) {
      in_runs(0, frustum.channels, [&](int64_t c, auto channels) { sum(turn, c, channels); });
    }
  }

  template <int kVectors>
  void sum(int64_t turn, int64_t c, Channels<kVectors> channels) const {
    const int64_t num_channels = frustum.channels, end = starts[turn + 1];
    int64_t base = 0, image_end = 0;  // images ascend within a cell: a comparison instead of a division
    Vector<T> total[kVectors] = {};
    for (int64_t i = starts[turn]; i < end; ++i) {
      const int64_t pixel = pixels[i];
      if (pixel >= image_end) {
        const int64_t image = pixel / frustum.image_pixels;
        base = frustum.base(image);
        image_end = (image + 1) * frustum.image_pixels;
      }
      const V* const feature = features + pixel * num_channels + c;
      const Vector<T> weight = fill(depth[base + frustum.step(pixel, bins[i])]);
      unrolled<kVectors>([&](auto v) { total[v] = fma<T>(weight, channels.read(feature, v), total[v]); });
    }
    T* const row = out + order[turn] * num_channels + c;
    unrolled<kVectors>([&](auto v) { channels.write(row, v, total[v]); });
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

  int64_t strips() const { return (width + kColumns - 1) / kColumns; }

  // Strips of a few columns: pixels above each other share cells, those beside each other the cache lines of
  // their depth probabilities.
  void run(int64_t begin, int64_t end) const {
    for (int64_t strip = begin; strip < end; ++strip) {
      const int64_t image = strip / strips(), first = strip % strips() * kColumns;
      for (int64_t y = 0; y < height; ++y) {
        for (int64_t x = first; x < std::min(first + kColumns, width); ++x) {
          const int64_t pixel = (image * height + y) * width + x;
          in_runs(0, frustum.channels, [&](int64_t c, auto channels) { pull(pixel, c, channels); });
        }
      }
    }
  }

  template <int kVectors>
  void pull(int64_t pixel, int64_t c, Channels<kVectors> channels) const {
    const int64_t row = pixel * frustum.channels + c, first = frustum.place(pixel, 0);
    const int64_t num_channels = frustum.channels, num_bins = frustum.num_bins, stride = frustum.bin_stride;
    const int32_t* const cell_of = cells + pixel * num_bins;
    const T *const from = grad + c, *const weight = depth + first;
    T* const to = grad_depth ? grad_depth + first : nullptr;
    Vector<T> feature[kVectors], total[kVectors] = {};
    unrolled<kVectors>([&](auto v) { feature[v] = channels.read(features + row, v); });
    for (int64_t bin = 0; bin < num_bins; ++bin) {
      const int64_t cell = cell_of[bin];
      Vector<T> products{};
      if (cell >= 0) {
        const Vector<T> w = fill(weight[bin * stride]);
        unrolled<kVectors>([&](auto v) {
          const Vector<T> value = channels.read(from + cell * num_channels, v);
          total[v] = fma<T>(w, value, total[v]);
          products = fma<T>(feature[v], value, products);
        });
      }
      if (!to) continue;
      const T product = renderpretrain::sum<T>(products);
      to[bin * stride] = c == 0 ? product : to[bin * stride] + product;
    }
    if (!grad_features) return;
    unrolled<kVectors>([&](auto v) { channels.write(grad_features + row, v, total[v]); });
  }
};

}  // namespace

int rp_lss_pool_cpu(int64_t type, const void* depth, int64_t stored_type, const void* features,
                    const int32_t* order, const int32_t* starts, const int32_t* pixels, const int32_t* bins,
                    const rp_frustum* frustum, void* out, int64_t num_threads) {
  return with_types(type, stored_type, [&](auto zero, auto stored) {
    using T = decltype(zero);
    using V = decltype(stored);
    const Forward<T, V> work{Frustum(*frustum),
                             static_cast<const T*>(depth),
                             static_cast<const V*>(features),
                             order,
                             starts,
                             pixels,
                             bins,
                             static_cast<T*>(out)};
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
    return parallel_for(frustum->num_images * work.strips(), 1, num_threads,
                        [&](int64_t begin, int64_t end) { work.run(begin, end); });
  });
}
