// Forward runs over points: every row of the volume is written once. Backward runs over bands of map rows:
// who owns a band walks all points of its camera and adds to the band alone, so no two threads write one
// cell, and the sum of a cell has the order of the points on any number of threads and with bands of any
// height.
#include "image_lift.h"

#include <algorithm>

#include "common/parallel.h"
#include "common/vector.h"

using namespace renderpretrain;

namespace {

constexpr int64_t kGrain = 128;            // points; tens of microseconds of work
constexpr int kTerms = 32;                 // rows that are blended at once: eight cameras of four cells
constexpr int64_t kBandsPerThread = 4;     // most points fall into the middle of images
constexpr int64_t kStreamFrom = 64 << 20;  // bytes of values that leave the caches before anyone reads them

// Weighted rows of maps.
template <typename T, typename S>
struct Terms {
  int count = 0;
  const S* row[kTerms];
  T weight[kTerms];
};

enum class Write { kStore, kAdd, kStream };

template <int num_vectors, typename T, typename S>
RP_HOST_DEVICE void blend_vectors(const Terms<T, S>& terms, int64_t c, Write write, T* out) {
  Vector<T> total[num_vectors] = {};
  for (int j = 0; j < num_vectors; ++j) {
    if (write == Write::kAdd) total[j] = load(out + c + j * kLanes);
  }
  for (int k = 0; k < terms.count; ++k) {
    const Vector<T> weight = fill(terms.weight[k]);
    for (int j = 0; j < num_vectors; ++j) {
      total[j] = fma<T>(weight, load(terms.row[k] + c + j * kLanes), total[j]);
    }
  }
  for (int j = 0; j < num_vectors; ++j) {
    T* const to = out + c + j * kLanes;
    write == Write::kStream ? stream<T>(to, total[j]) : store<T>(to, total[j]);
  }
}

// out = (or, to add: +=) the sum of the terms.
template <typename T, typename S>
RP_HOST_DEVICE void blend(const Terms<T, S>& terms, int64_t channels, Write write, T* out) {
  constexpr int kVectors = 4;
  int64_t c = 0;
  for (; c + kVectors * kLanes <= channels; c += kVectors * kLanes)
    blend_vectors<kVectors>(terms, c, write, out);
  for (; c + kLanes <= channels; c += kLanes) blend_vectors<1>(terms, c, write, out);
  const int rest = static_cast<int>(channels - c);
  if (rest == 0) return;
  Vector<T> total = write == Write::kAdd ? load_some(out + c, rest) : Vector<T>{};
  for (int k = 0; k < terms.count; ++k) {
    total = fma<T>(terms.weight[k], load_some(terms.row[k] + c, rest), total);
  }
  store_some<T>(out + c, total, rest);
}

template <typename T, typename S>
struct Forward {
  Lift<T> lift;
  const S* features;
  T* values;

  RP_HOST_DEVICE void run(int64_t begin, int64_t end) const {
    const int64_t row_bytes = lift.sizes.channels * static_cast<int64_t>(sizeof(T));
    const bool aligned = reinterpret_cast<uintptr_t>(values) % kStreamAlignment == 0 &&
                         row_bytes % static_cast<int64_t>(kLanes * sizeof(T)) == 0;
    const bool large = lift.sizes.batch * lift.sizes.num_points * row_bytes >= kStreamFrom;
    const Write write = aligned && large ? Write::kStream : Write::kStore;
    for (int64_t i = begin; i < end; ++i) {
      const int64_t batch = i / lift.sizes.num_points, point = i % lift.sizes.num_points;
      lift_point(batch, point, write, values + i * lift.sizes.channels);
    }
    finish_streams();
  }

  RP_HOST_DEVICE void lift_point(int64_t batch, int64_t point, Write write, T* out) const {
    const int64_t num_cells = lift.sizes.height * lift.sizes.width;
    const T share = lift.share_of_view(batch, point);
    Terms<T, S> terms;
    bool begun = false;
    for (int64_t image = batch * lift.sizes.views; image < (batch + 1) * lift.sizes.views; ++image) {
      if (!lift.sees(image, point)) continue;
      const Sight<T> sight = lift.look(image, point);
      const T scale = share * lift.likelihood(image, sight);
      if (terms.count + 4 > kTerms) {
        blend(terms, lift.sizes.channels, begun ? Write::kAdd : Write::kStore, out);
        terms.count = 0;
        begun = true;
      }
      for (int k = 0; k < sight.num_cells; ++k) {
        terms.row[terms.count] = features + (image * num_cells + sight.cell[k]) * lift.sizes.channels;
        terms.weight[terms.count++] = scale * sight.weight[k];
      }
    }
    blend(terms, lift.sizes.channels, begun ? Write::kAdd : write, out);
  }
};

// <grad, sum of weighted rows>
template <int num_rows, typename T, typename S>
RP_HOST_DEVICE T dot(const T* grad, const S* const* row, const T* weight, int64_t channels) {
  Vector<T> total{};
  int64_t c = 0;
  for (; c + kLanes <= channels; c += kLanes) {
    Vector<T> blended = fill(weight[0]) * load(row[0] + c);
    for (int k = 1; k < num_rows; ++k) blended = fma<T>(weight[k], load(row[k] + c), blended);
    total = fma<T>(load(grad + c), blended, total);
  }
  const int rest = static_cast<int>(channels - c);
  if (rest > 0) {
    Vector<T> blended{};
    for (int k = 0; k < num_rows; ++k) blended = fma<T>(weight[k], load_some(row[k] + c, rest), blended);
    total = fma<T>(load_some(grad + c, rest), blended, total);
  }
  return sum<T>(total);
}

// row += weight * grad
template <typename T>
RP_HOST_DEVICE void add_scaled(T weight, const T* grad, int64_t channels, T* row) {
  int64_t c = 0;
  for (; c + kLanes <= channels; c += kLanes) {
    store<T>(row + c, fma<T>(weight, load(grad + c), load(row + c)));
  }
  const int rest = static_cast<int>(channels - c);
  if (rest == 0) return;
  store_some<T>(row + c, fma<T>(weight, load_some(grad + c, rest), load_some(row + c, rest)), rest);
}

template <typename T, typename S>
struct Backward {
  Lift<T> lift;
  int64_t num_bands;  // per image
  const T* grad;
  const S* features;
  T *grad_features, *grad_probabilities;  // null where not needed

  RP_HOST_DEVICE void run(int64_t begin, int64_t end) const {
    for (int64_t band = begin; band < end; ++band) {
      const int64_t height = lift.sizes.height, part = band % num_bands;
      add_band(band / num_bands, height * part / num_bands, height * (part + 1) / num_bands);
    }
  }

  // Everything that the points of an image add to its rows [first, last).
  RP_HOST_DEVICE void add_band(int64_t image, int64_t first, int64_t last) const {
    const int64_t num_points = lift.sizes.num_points, batch = image / lift.sizes.views;
    for (int64_t point = 0; point < num_points; ++point) {
      if (!lift.sees(image, point)) continue;
      const T row = index_of(lift.coordinates[3 * (image * num_points + point) + 1], lift.sizes.height);
      if (!(row >= static_cast<T>(first - 1) && row < static_cast<T>(last))) continue;
      const T* const value = grad + (batch * num_points + point) * lift.sizes.channels;
      const Sight<T> sight = lift.look(image, point);
      const T share = lift.share_of_view(batch, point);
      const int64_t begin = first * lift.sizes.width, end = last * lift.sizes.width;
      if (grad_features != nullptr) add_to_features(image, sight, share, value, begin, end);
      if (grad_probabilities != nullptr) add_to_probabilities(image, sight, share, value, begin, end);
    }
  }

  RP_HOST_DEVICE void add_to_features(int64_t image, const Sight<T>& sight, T share, const T* value,
                                      int64_t begin, int64_t end) const {
    const int64_t num_cells = lift.sizes.height * lift.sizes.width, channels = lift.sizes.channels;
    const T scale = share * lift.likelihood(image, sight);
    for (int k = 0; k < sight.num_cells; ++k) {
      if (sight.cell[k] < begin || sight.cell[k] >= end) continue;
      T* const row = grad_features + (image * num_cells + sight.cell[k]) * channels;
      add_scaled(scale * sight.weight[k], value, channels, row);
    }
  }

  RP_HOST_DEVICE void add_to_probabilities(int64_t image, const Sight<T>& sight, T share, const T* value,
                                           int64_t begin, int64_t end) const {
    const int64_t num_cells = lift.sizes.height * lift.sizes.width, channels = lift.sizes.channels;
    const S* row[4];
    for (int k = 0; k < sight.num_cells; ++k) {
      row[k] = features + (image * num_cells + sight.cell[k]) * channels;
    }
    T product = 0;
    if (sight.num_cells == 4) product = share * dot<4>(value, row, sight.weight, channels);
    if (sight.num_cells == 2) product = share * dot<2>(value, row, sight.weight, channels);
    if (sight.num_cells == 1) product = share * dot<1>(value, row, sight.weight, channels);
    for (int k = 0; k < sight.num_cells; ++k) {
      if (sight.cell[k] < begin || sight.cell[k] >= end) continue;
      for (int j = 0; j < 2; ++j) {
        if (sight.share[j] == 0) continue;
        grad_probabilities[lift.probability_index(image, sight.cell[k], sight.bin[j])] +=
            product * sight.weight[k] * sight.share[j];
      }
    }
  }
};

}  // namespace

int rp_image_lift_cpu(int64_t type, const void* coordinates, const bool* valid, const void* features,
                      const void* probabilities, const rp_lift* sizes, void* values, int64_t num_threads) {
  return with_types(type, sizes->feature_type, [&](auto zero, auto stored) {
    using T = decltype(zero);
    using S = decltype(stored);
    const Lift<T> lift{*sizes, static_cast<const T*>(coordinates), valid, probabilities};
    const Forward<T, S> work{lift, static_cast<const S*>(features), static_cast<T*>(values)};
    return parallel_for(sizes->batch * sizes->num_points, kGrain, num_threads,
                        [&](int64_t begin, int64_t end) { work.run(begin, end); });
  });
}

int rp_image_lift_backward_cpu(int64_t type, const void* coordinates, const bool* valid, const void* features,
                               const void* probabilities, const void* grad, const rp_lift* sizes,
                               void* grad_features, void* grad_probabilities, int64_t num_threads) {
  return with_types(type, sizes->feature_type, [&](auto zero, auto stored) {
    using T = decltype(zero);
    using S = decltype(stored);
    const Lift<T> lift{*sizes, static_cast<const T*>(coordinates), valid, probabilities};
    const int64_t num_images = sizes->batch * sizes->views;
    const int64_t wanted = num_threads > 1 ? kBandsPerThread * num_threads : 1;
    const int64_t num_bands = std::clamp<int64_t>(
        (wanted + num_images - 1) / std::max<int64_t>(num_images, 1), 1, std::max<int64_t>(sizes->height, 1));
    const Backward<T, S> work{lift,
                              num_bands,
                              static_cast<const T*>(grad),
                              static_cast<const S*>(features),
                              static_cast<T*>(grad_features),
                              static_cast<T*>(grad_probabilities)};
    return parallel_for(num_images * num_bands, 1, num_threads,
                        [&](int64_t begin, int64_t end) { work.run(begin, end); });
  });
}
