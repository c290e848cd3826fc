// Gather and slope run over points. Scatter runs over rows of voxels: every thread walks all points and adds
// to the rows it owns, so no two threads write one voxel, and the sum of a voxel has the order of the points
// on any number of threads.
#include "grid.h"

#include "parallel.h"

using namespace renderpretrain;

namespace {

constexpr int64_t kGrain = 256;       // points; tens of microseconds of work
constexpr int64_t kRowsTogether = 4;  // neighbouring rows of one owner: a cell touches two
constexpr int kLanes = 16;            // floats of the widest vector

// A sum with a fixed order that any vector width can follow.
template <typename T>
RP_HOST_DEVICE T dot(const T* a, const T* b, int64_t count) {
  T lane[kLanes] = {};
  int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) {
    for (int j = 0; j < kLanes; ++j) lane[j] += a[i + j] * b[i + j];
  }
  T rest = 0;
  for (; i < count; ++i) rest += a[i] * b[i];
  for (int half = kLanes / 2; half > 0; half /= 2) {
    for (int j = 0; j < half; ++j) lane[j] += lane[j + half];
  }
  return lane[0] + rest;
}

// What one point needs of all its corners.
template <typename T>
struct Stencil {
  int64_t voxel[kCorners];
  T weight[kCorners];
  int count = 0;  // corners inside the volume
};

template <typename T>
RP_HOST_DEVICE Stencil<T> stencil_of(const Grid<T>& grid, const T* point, const T* direction) {
  Stencil<T> stencil;
  Cell<T> cell;
  if (!locate(grid, point, &cell)) return stencil;
  for (int k = 0; k < kCorners; ++k) {
    const int64_t voxel = voxel_of(grid, cell, k);
    if (voxel < 0) continue;
    stencil.voxel[stencil.count] = voxel;
    stencil.weight[stencil.count++] = weight_of(grid, cell, direction, k);
  }
  return stencil;
}

template <typename T>
struct Gather {
  Grid<T> grid;
  const T *volume, *points, *directions;
  T* values;

  RP_HOST_DEVICE void run(int64_t begin, int64_t end) const {
    const int64_t channels = grid.channels;
    for (int64_t i = begin; i < end; ++i) {
      const T* const base = volume + i / grid.num_points * grid.num_voxels() * channels;
      const Stencil<T> stencil = stencil_of(grid, points + 3 * i, directions ? directions + 3 * i : nullptr);
      T* const out = values + i * channels;
      if (stencil.count == kCorners) {
        const T* row[kCorners];
        for (int k = 0; k < kCorners; ++k) row[k] = base + stencil.voxel[k] * channels;
        const T* const w = stencil.weight;
#pragma GCC ivdep
        for (int64_t c = 0; c < channels; ++c) {
          out[c] = w[0] * row[0][c] + w[1] * row[1][c] + w[2] * row[2][c] + w[3] * row[3][c] +
                   w[4] * row[4][c] + w[5] * row[5][c] + w[6] * row[6][c] + w[7] * row[7][c];
        }
        continue;
      }
      for (int64_t c = 0; c < channels; ++c) out[c] = 0;
      for (int k = 0; k < stencil.count; ++k) {
        const T* const row = base + stencil.voxel[k] * channels;
        const T w = stencil.weight[k];
#pragma GCC ivdep
        for (int64_t c = 0; c < channels; ++c) out[c] += w * row[c];
      }
    }
  }
};

template <typename T>
struct Scatter {
  Grid<T> grid;
  int64_t batch, num_owners;
  const T *values, *points, *directions;
  T* volume;

  RP_HOST_DEVICE void run(int64_t begin, int64_t end) const {
    for (int64_t owner = begin; owner < end; ++owner) {
      for (int64_t i = 0; i < batch * grid.num_points; ++i) add(owner, i);
    }
  }

  RP_HOST_DEVICE void add(int64_t owner, int64_t i) const {
    const int64_t channels = grid.channels;
    Cell<T> cell;
    if (!locate(grid, points + 3 * i, &cell)) return;
    const T* const direction = directions ? directions + 3 * i : nullptr;
    T* const base = volume + i / grid.num_points * grid.num_voxels() * channels;
    for (int k = 0; k < kCorners; ++k) {
      const int64_t voxel = voxel_of(grid, cell, k);
      if (voxel < 0 || voxel / grid.size[0] / kRowsTogether % num_owners != owner) continue;
      const T w = weight_of(grid, cell, direction, k);
      if (w == 0) continue;  // points on voxel centres, as splat's nearest mode makes them, touch one voxel
      T* const row = base + voxel * channels;
      const T* const value = values + i * channels;
#pragma GCC ivdep
      for (int64_t c = 0; c < channels; ++c) row[c] += w * value[c];
    }
  }
};

template <typename T>
struct Slope {
  Grid<T> grid;
  const T *values, *volume, *points, *directions;
  T* slopes;

  RP_HOST_DEVICE void run(int64_t begin, int64_t end) const {
    const int64_t channels = grid.channels;
    for (int64_t i = begin; i < end; ++i) {
      T* const slope = slopes + 3 * i;
      slope[0] = slope[1] = slope[2] = 0;
      Cell<T> cell;
      if (!locate(grid, points + 3 * i, &cell)) continue;
      const T* const direction = directions ? directions + 3 * i : nullptr;
      const T* const base = volume + i / grid.num_points * grid.num_voxels() * channels;
      for (int k = 0; k < kCorners; ++k) {
        const int64_t voxel = voxel_of(grid, cell, k);
        if (voxel < 0) continue;
        const T product = dot(values + i * channels, base + voxel * channels, channels);
        add_slope(grid, cell, direction, k, product, slope);
      }
    }
  }
};


}  // namespace

int rp_grid_gather_cpu(int64_t type, const void* volume, const void* points, const void* directions,
                       const rp_grid* grid, void* values, int64_t num_threads) {
  return with_type(type, [&](auto zero) {
    using T = decltype(zero);
    const Gather<T> work{Grid<T>(*grid), static_cast<const T*>(volume), static_cast<const T*>(points),
                         static_cast<const T*>(directions), static_cast<T*>(values)};
    return parallel_for(grid->batch * grid->num_points, kGrain, num_threads,
                        [&](int64_t begin, int64_t end) { work.run(begin, end); });
  });
}

int rp_grid_scatter_cpu(int64_t type, const void* values, const void* points, const void* directions,
                        const rp_grid* grid, void* volume, int64_t num_threads) {
  return with_type(type, [&](auto zero) {
    using T = decltype(zero);
    const int64_t num_points = grid->batch * grid->num_points;
    const int64_t num_owners = num_points < kGrain ? 1 : num_threads;
    const Scatter<T> work{Grid<T>(*grid),
                          grid->batch,
                          num_owners,
                          static_cast<const T*>(values),
                          static_cast<const T*>(points),
                          static_cast<const T*>(directions),
                          static_cast<T*>(volume)};
    return parallel_for(num_owners, 1, num_threads,
                        [&](int64_t begin, int64_t end) { work.run(begin, end); });
  });
}

int rp_grid_slope_cpu(int64_t type, const void* values, const void* volume, const void* points,
                      const void* directions, const rp_grid* grid, void* slopes, int64_t num_threads) {
  return with_type(type, [&](auto zero) {
    using T = decltype(zero);
    const Slope<T> work{Grid<T>(*grid),
                        static_cast<const T*>(values),
                        static_cast<const T*>(volume),
                        static_cast<const T*>(points),
                        static_cast<const T*>(directions),
                        static_cast<T*>(slopes)};
    return parallel_for(grid->batch * grid->num_points, kGrain, num_threads,
                        [&](int64_t begin, int64_t end) { work.run(begin, end); });
  });
}
