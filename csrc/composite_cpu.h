// Sixteen rays side by side, each in a lane of the vectors that walk along them: the light along a ray is a
// chain of products, and a chain of vectors takes as long as one of numbers.
#pragma once

#include <algorithm>

#include "composite.h"
#include "common/parallel.h"
#include "common/rows.h"

namespace renderpretrain {

static_assert(kLanes == RP_RAY_GROUP, "workspaces are sized for groups of this many rays");

// to[j][i] = from[i][j] for sixteen rows of sixteen.
template <typename T>
RP_HOST_DEVICE void turn_tile(const T* from, int64_t from_stride, T* to, int64_t to_stride) {
  for (int i = 0; i < kLanes; i += 4) {
    for (int j = 0; j < kLanes; j += 4) {
      Four<T> rows[4];
      for (int k = 0; k < 4; ++k) std::memcpy(&rows[k], from + (i + k) * from_stride + j, sizeof(rows[k]));
      turn<T>(rows);
      for (int k = 0; k < 4; ++k) std::memcpy(to + (j + k) * to_stride + i, &rows[k], sizeof(rows[k]));
    }
  }
}

// Up to sixteen neighbouring rays. All arrays start at the first of them; `valid` may be null.
template <typename T>
struct RayGroup {
  int64_t num_rays, num_samples;
  const bool* valid;
  T early_stop;

  RP_HOST_DEVICE int64_t num_tiles() const { return (num_samples + kLanes - 1) / kLanes; }

  RP_HOST_DEVICE bool is_whole(int64_t first) const {
    return num_rays == kLanes && first + kLanes <= num_samples;
  }

  // One vector per sample from `first` on; absent rays and samples are zero, as are those that do not count.
  RP_HOST_DEVICE void load_columns(const T* from, int64_t first, Vector<T>* columns) const {
    T tile[kLanes * kLanes];
    if (is_whole(first) && !valid) {
      turn_tile(from + first, num_samples, tile, kLanes);
    } else {
      T rows[kLanes * kLanes] = {};
      for (int64_t ray = 0; ray < num_rays; ++ray) {
        copy_valid(from + ray * num_samples + first, ray, first, rows + ray * kLanes);
      }
      turn_tile(rows, kLanes, tile, kLanes);
    }
    for (int i = 0; i < kLanes; ++i) columns[i] = load(tile + i * kLanes);
  }

  // The way back.
  RP_HOST_DEVICE void store_columns(const Vector<T>* columns, int64_t first, T* to) const {
    T tile[kLanes * kLanes], rows[kLanes * kLanes];
    for (int i = 0; i < kLanes; ++i) store<T>(tile + i * kLanes, columns[i]);
    if (is_whole(first) && !valid) return turn_tile(tile, kLanes, to + first, num_samples);
    turn_tile(tile, kLanes, rows, kLanes);
    for (int64_t ray = 0; ray < num_rays; ++ray) {
      copy_valid(rows + ray * kLanes, ray, first, to + ray * num_samples + first);
    }
  }

  // Up to sixteen samples of a ray from `first` on, zero for those that do not count.
  RP_HOST_DEVICE void copy_valid(const T* from, int64_t ray, int64_t first, T* to) const {
    const bool* const marks = valid ? valid + ray * num_samples + first : nullptr;
    if (first + kLanes <= num_samples) {
      store<T>(to, marks ? keep<T>(load(from), marks) : load(from));
      return;
    }
    for (int64_t i = 0; first + i < num_samples; ++i) to[i] = marks == nullptr || marks[i] ? from[i] : T(0);
  }

  // weights[i] = alphas[i] * prod_{j < i} (1 - alphas[j]); the two may be the same memory.
  RP_HOST_DEVICE void composite(const T* alphas, T* weights) const {
    const T end = end_of_light(early_stop);
    Vector<T> transmittance = fill(T(1));
    for (int64_t first = 0; first < num_samples; first += kLanes) {
      Vector<T> columns[kLanes];
      load_columns(alphas, first, columns);
      for (Vector<T>& alpha : columns) {
        const Vector<T> weight = alpha * transmittance;
        transmittance = dim(transmittance, alpha, end);
        alpha = weight;
      }
      store_columns(columns, first, weights);
    }
  }

  // The way to and fro: transmittances (num_tiles, kLanes) in front of every tile, and on how many samples
  // the gradient of each ray depends.
  RP_HOST_DEVICE void trace(const T* alphas, T* transmittances, int64_t* reach) const {
    const T end = end_of_light(early_stop);
    Vector<T> visible = fill(T(1)), lit = visible, seen{};
    for (int64_t first = 0; first < num_samples; first += kLanes) {
      Vector<T> columns[kLanes];
      load_columns(alphas, first, columns);
      store<T>(transmittances + first, visible * lit);
      for (const Vector<T>& alpha : columns) {
        seen += visible == T(0) ? Vector<T>{} : fill(T(1));
        dim_visible(alpha, end, early_stop > 0, &visible, &lit);
      }
    }
    for (int ray = 0; ray < kLanes; ++ray)
      reach[ray] = std::min(static_cast<int64_t>(seen[ray]), num_samples);
  }

  // Turns gradients by the weights, zero past the reach of a ray, into gradients by the alphas.
  RP_HOST_DEVICE void go_back(const T* alphas, const T* transmittances, T* grads) const {
    const T end = end_of_light(early_stop);
    Vector<T> behind{};
    for (int64_t first = (num_tiles() - 1) * kLanes; first >= 0; first -= kLanes) {
      Vector<T> columns[kLanes], found[kLanes], transmittance[kLanes];
      load_columns(alphas, first, columns);
      load_columns(grads, first, found);
      transmittance[0] = load(transmittances + first);
      for (int i = 1; i < kLanes; ++i) transmittance[i] = dim(transmittance[i - 1], columns[i - 1], end);
      for (int i = kLanes - 1; i >= 0; --i) {
        found[i] = step_back<T>(columns[i], transmittance[i], found[i], &behind);
      }
      store_columns(found, first, grads);
    }
  }
};

// Calls run(group, first ray) on all groups; threads share them out.
template <typename T, typename Run>
int for_groups(int64_t num_rays, int64_t num_samples, const bool* valid, double early_stop,
               int64_t num_threads, Run run) {
  return parallel_for((num_rays + kLanes - 1) / kLanes, 1, num_threads, [&](int64_t begin, int64_t end) {
    for (int64_t ray = begin * kLanes; ray < std::min(end * kLanes, num_rays); ray += kLanes) {
      const int64_t count = std::min<int64_t>(kLanes, num_rays - ray);
      const bool* const marks = valid ? valid + ray * num_samples : nullptr;
      run(RayGroup<T>{count, num_samples, marks, static_cast<T>(early_stop)}, ray);
    }
  });
}

}  // namespace renderpretrain
