// Reading runs over points. Adding to a volume runs over blocks of its rows: every thread walks all points
// and adds to the rows it owns, so no two threads write one voxel, and the sum of a voxel has the order of
// the points on any number of threads.
#include "grid.h"

#include <algorithm>

#include "parallel.h"
#include "vector.h"

using namespace renderpretrain;

namespace {

constexpr int64_t kGrain = 512;  // points; tens of microseconds of work
constexpr int kBlockShift = 3;   // rows of one owner lie in blocks of 8 x 8: most cells have a single owner

// Which thread adds to the row of voxels at (y, z).
struct Owners {
  int mask;  // their number, a power of two, less one

  RP_HOST_DEVICE int of(int y, int z) const { return ((y >> kBlockShift) + (z >> kBlockShift)) & mask; }

  // Whether a cell whose lower corner is there has a row of the owner's.
  RP_HOST_DEVICE bool meet(int y, int z, int owner) const {
    return of(y, z) == owner || of(y + 1, z + 1) == owner || of(y + 1, z) == owner || of(y, z + 1) == owner;
  }
};

// What points need of their cells, a lane each, so that it is computed for kLanes points at a time.
template <typename T>
struct Cells {
  int32_t corner[3][kLanes];            // the lower one, in the order x, y, z
  int32_t inside[kLanes];               // bit k: corner k is in the volume
  Vector<T> weight[kCorners];           // or its derivative along the direction
  Vector<T> rate[kCorners][3];          // derivative of `weight` by the point

  RP_HOST_DEVICE Cells(const Grid<T>& grid, const T* points, const T* directions, int count, bool rates) {
    constexpr int32_t kUpper[3] = {0xaa, 0xcc, 0xf0};  // corners on the upper side of each axis
    Vector<T> point[3], along[3];
    transpose(points, count, point);
    if (directions) transpose(directions, count, along);
    Vector<int32_t> all = Vector<int32_t>{} + 0xff;
    Cell<Vector<T>> cell;
    for (int axis = 0; axis < 3; ++axis) {
      const T size = static_cast<T>(grid.size[axis]);
      Vector<T> index = point[axis] * grid.scale[axis] + grid.offset[axis];
      const auto near = (index >= -1) & (index < size);
      index = near ? index : Vector<T>{};
      const Vector<T> low = floor<T>(index);
      cell.share[axis][1] = index - low;
      cell.share[axis][0] = 1 - (index - low);
      store(corner[axis], __builtin_convertvector(low, Vector<int32_t>));
      const auto lower_in = __builtin_convertvector(near & (low >= 0), Vector<int32_t>);
      const auto upper_in = __builtin_convertvector(near & (low + 1 < size), Vector<int32_t>);
      all &= (lower_in & ~kUpper[axis]) | (upper_in & kUpper[axis]);
    }
    store(inside, all);
    const Vector<T>* const direction = directions ? along : nullptr;
    for (int k = 0; k < kCorners; ++k) {
      weight[k] = weight_of(grid, cell, direction, k);
      if (rates) slope_of(grid, cell, direction, k, rate[k]);
    }
  }

  // Lanes from rows of three numbers; lanes past the last row are zero.
  RP_HOST_DEVICE static void transpose(const T* rows, int count, Vector<T>* columns) {
    T column[3][kLanes] = {};
    for (int j = 0; j < count; ++j) {
      for (int axis = 0; axis < 3; ++axis) column[axis][j] = rows[3 * j + axis];
    }
    for (int axis = 0; axis < 3; ++axis) columns[axis] = load(column[axis]);
  }
};

// The corners of one lane that are inside.
struct Corners {
  int count = 0;
  int k[kCorners];

  RP_HOST_DEVICE explicit Corners(int32_t inside) {
    for (int i = 0; i < kCorners; ++i) {
      k[count] = i;
      count += inside >> i & 1;
    }
  }
};

// One pass over points, with w_k the weights of their corners. Each of the three results may be null.
template <typename T, typename V>
struct Pass {
  Grid<T> grid;
  int64_t batch;
  const T *points, *directions, *values_in;
  const V* volume_in;
  T* values;  // sum_k w_k volume_in_k
  T* volume;  // volume_k += w_k values_in
  T* slopes;  // sum_k dw_k/dpoint <values_in, volume_in_k>

  // With owners only what the owner has is written: its rows of the volume, and values and slopes of the
  // points whose cell begins in one of these.
  RP_HOST_DEVICE void run(int64_t begin, int64_t end, const Owners* owners, int owner) const {
    int64_t sample = begin / grid.num_points;
    for (int64_t i = begin; i < end;) {
      // Lanes share a sample.
      if (i >= (sample + 1) * grid.num_points) ++sample;
      const int64_t until = std::min(std::min(i + kLanes, end), (sample + 1) * grid.num_points);
      const Cells<T> cells(grid, points + 3 * i, directions ? directions + 3 * i : nullptr,
                           static_cast<int>(until - i), slopes != nullptr);
      for (int j = 0; i < until; ++i, ++j) point(i, sample, cells, j, owners, owner);
    }
  }

  RP_HOST_DEVICE void point(int64_t i, int64_t sample, const Cells<T>& cells, int j, const Owners* owners,
                            int owner) const {
    const int x = cells.corner[0][j], y = cells.corner[1][j], z = cells.corner[2][j];
    if (owners != nullptr && !owners->meet(y, z, owner)) return;
    const bool first = owners == nullptr || owners->of(y, z) == owner;
    const int64_t corner = sample * grid.num_voxels() + (z * grid.size[1] + y) * grid.size[0] + x;
    constexpr int32_t kAll = (1 << kCorners) - 1;
    if (cells.inside[j] == kAll) {
      visit<true>(i, corner, cells, j, owners, owner, first);
    } else {
      visit<false>(i, corner, cells, j, owners, owner, first);
    }
  }

  template <bool kAll>
  RP_HOST_DEVICE void visit(int64_t i, int64_t corner, const Cells<T>& cells, int j, const Owners* owners,
                            int owner, bool first) const {
    const Corners corners(kAll ? (1 << kCorners) - 1 : cells.inside[j]);
    const int count = kAll ? kCorners : corners.count;
    const int64_t channels = grid.channels;
    int64_t row[kCorners];
    T weight[kCorners];
    for (int n = 0; n < count; ++n) {
      const int k = kAll ? n : corners.k[n];
      row[n] = (corner + (k & 1) + ((k >> 1 & 1) + (k >> 2) * grid.size[1]) * grid.size[0]) * channels;
      weight[n] = cells.weight[k][j];
    }
    T* const out = values && first ? values + i * channels : nullptr;
    if (slopes && first) {
      slope<kAll>(count, row, weight, cells, corners, j, values_in + i * channels, slopes + 3 * i, out);
    } else if (out) {
      gather<kAll>(count, row, weight, out);
    }
    if (volume == nullptr) return;
    int owned = 0;
    for (int n = 0; n < count; ++n) {
      const int k = kAll ? n : corners.k[n];
      const bool mine = owners->of(cells.corner[1][j] + (k >> 1 & 1), cells.corner[2][j] + (k >> 2)) == owner;
      row[owned] = row[n];
      weight[owned] = weight[n];
      owned += mine;
    }
    scatter(owned, row, weight, values_in + i * channels);
  }

  RP_HOST_DEVICE void scatter(int count, const int64_t* row, const T* weight, const T* in) const {
    const int64_t channels = grid.channels;
    int64_t c = 0;
    for (; c + kLanes <= channels; c += kLanes) {
      const Vector<T> value = load(in + c);
      for (int n = 0; n < count; ++n) {
        T* const to = volume + row[n] + c;
        store(to, fma(weight[n], value, load(to)));
      }
    }
    const int rest = static_cast<int>(channels - c);
    if (rest <= 4) {  // neighbouring points add to the same row, and a number just stored is quick to load
      for (int n = 0; n < count; ++n) {
        for (int64_t last = c; last < channels; ++last) volume[row[n] + last] += weight[n] * in[last];
      }
      return;
    }
    const Vector<T> value = load_some(in + c, rest);
    for (int n = 0; n < count; ++n) {
      T* const to = volume + row[n] + c;
      store_some(to, fma(weight[n], value, load_some(to, rest)), rest);
    }
  }

  template <bool kAll>
  RP_HOST_DEVICE void gather(int some, const int64_t* row, const T* weight, T* out) const {
    const int count = kAll ? kCorners : some;
    const int64_t channels = grid.channels;
    int64_t c = 0;
    for (; c + kLanes <= channels; c += kLanes) {
      Vector<T> total{};
#pragma GCC unroll 8
      for (int n = 0; n < count; ++n) total = fma(weight[n], load(volume_in + row[n] + c), total);
      store(out + c, total);
    }
    const int rest = static_cast<int>(channels - c);
    if (rest == 0) return;
    Vector<T> total{};
#pragma GCC unroll 8
    for (int n = 0; n < count; ++n) total = fma(weight[n], load_some(volume_in + row[n] + c, rest), total);
    store_some(out + c, total, rest);
  }

  // The slope, and the value too unless `out` is null.
  template <bool kAll>
  RP_HOST_DEVICE void slope(int some, const int64_t* row, const T* weight, const Cells<T>& cells,
                            const Corners& corners, int j, const T* in, T* result, T* out) const {
    const int count = kAll ? kCorners : some;
    const int64_t channels = grid.channels;
    Vector<T> product[kCorners] = {};
    for (int64_t c = 0; c < channels; c += kLanes) {
      const int rest = static_cast<int>(std::min<int64_t>(channels - c, kLanes));
      const bool whole = rest == kLanes;
      const Vector<T> value = whole ? load(in + c) : load_some(in + c, rest);
      Vector<T> total{};
#pragma GCC unroll 8
      for (int n = 0; n < count; ++n) {
        const V* const from = volume_in + row[n] + c;
        const Vector<T> read = whole ? load(from) : load_some(from, rest);
        product[n] = fma<T>(value, read, product[n]);
        total = fma(weight[n], read, total);
      }
      if (out && whole) store(out + c, total);
      if (out && !whole) store_some(out + c, total, rest);
    }
    for (int axis = 0; axis < 3; ++axis) {
      Vector<T> total{};
#pragma GCC unroll 8
      for (int n = 0; n < count; ++n) {
        total = fma(cells.rate[kAll ? n : corners.k[n]][axis][j], product[n], total);
      }
      result[axis] = sum<T>(total);
    }
  }
};

template <typename T, typename V>
int run(const Pass<T, V>& pass, int64_t num_threads) {
  const int64_t num_points = pass.batch * pass.grid.num_points;
  if (pass.volume == nullptr) {
    return parallel_for(num_points, kGrain, num_threads,
                        [&](int64_t begin, int64_t end) { pass.run(begin, end, nullptr, 0); });
  }
  int num_owners = 1;
  while (num_owners < num_threads && num_points > kGrain) num_owners *= 2;
  const Owners owners{num_owners - 1};
  return parallel_for(num_points ? num_owners : 0, 1, num_threads, [&](int64_t begin, int64_t end) {
    for (int64_t owner = begin; owner < end; ++owner) {
      pass.run(0, num_points, &owners, static_cast<int>(owner));
    }
  });
}

}  // namespace

int rp_grid_sample_cpu(int64_t type, const void* points, int64_t stored_type, const void* volume,
                       const rp_grid* grid, void* values, int64_t num_threads) {
  return rp_grid_sample_backward_cpu(type, points, nullptr, nullptr, stored_type, volume, grid, values,
                                     nullptr, nullptr, num_threads);
}

int rp_grid_sample_backward_cpu(int64_t type, const void* points, const void* directions,
                                const void* grad_values, int64_t stored_type, const void* volume,
                                const rp_grid* grid, void* values, void* grad_volume, void* slopes,
                                int64_t num_threads) {
  return with_types(type, stored_type, [&](auto zero, auto stored) {
    using T = decltype(zero);
    using V = decltype(stored);
    return run(Pass<T, V>{Grid<T>(*grid), grid->batch, static_cast<const T*>(points),
                          static_cast<const T*>(directions), static_cast<const T*>(grad_values),
                          static_cast<const V*>(volume), static_cast<T*>(values),
                          static_cast<T*>(grad_volume), static_cast<T*>(slopes)},
               num_threads);
  });
}
