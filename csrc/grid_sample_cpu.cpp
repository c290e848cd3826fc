// Reading runs over points. Adding to a volume runs over blocks of its rows: every thread walks all points
// and adds to the rows it owns, so no two threads write one voxel, and the sum of a voxel has the order of
// the points on any number of threads.
#include "grid_sample_cpu.h"

#include <algorithm>

#include "common/parallel.h"

using namespace renderpretrain;

namespace {

constexpr int64_t kGrain = 512;  // points; tens of microseconds of work
constexpr int kLine = 64;        // bytes of a cache line
constexpr int kLongRow = 256;    // bytes; the processor itself finds how a longer row goes on
constexpr int kNear = 1 << 23;   // bytes of a volume that the caches may hold

// Some corners of one cell.
template <typename T>
struct Corners {
  int count = 0;
  int k[kCorners];
  int64_t row[kCorners];  // where the channels of the voxel begin
  T weight[kCorners];
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

  // Writes what the owner has: its rows of the volume, and values and slopes of the points whose cell begins
  // in one of these.
  RP_HOST_DEVICE void run(int64_t begin, int64_t end, const Owner& owner) const {
    const int64_t row_bytes = grid.channels * sizeof(T);
    const bool far = kLine <= row_bytes && row_bytes <= kLongRow && grid.num_voxels() * row_bytes > kNear;
    Block<T> blocks[2];
    fill(begin, end, owner, &blocks[0]);
    for (int turn = 0; blocks[turn].begin < end; turn ^= 1) {
      const Block<T>& now = blocks[turn];
      Block<T>& next = blocks[turn ^ 1];
      fill(now.end, end, owner, &next);
      Vector<T> products[kCorners];
      if (slopes) std::fill(products, products + kCorners, Vector<T>{});
      for (int j = 0; far && next.begin + j < next.end; ++j) fetch(next, j);
      for (int j = 0; now.begin + j < now.end; ++j) point(now, j, products);
      if (slopes) put_slopes(now, products);
    }
  }

  RP_HOST_DEVICE void fill(int64_t begin, int64_t end, const Owner& owner, Block<T>* block) const {
    block->begin = block->end = begin;
    if (begin >= end) return;
    block->sample = begin / grid.num_points;
    block->end = std::min(std::min(begin + kLanes, end), (block->sample + 1) * grid.num_points);
    block->locate(grid, points, directions, owner);
  }

  // Asks for the rows of a cell while others are worked on: on a volume larger than the caches a pass waits
  // for memory most of the time.
  RP_HOST_DEVICE void fetch(const Block<T>& block, int j) const {
    const bool reads = volume_in && block.begins[j], adds = volume && block.owned[j];
    if (block.inside[j] != kAllInside || !(reads || adds)) return;
    const int64_t first = row_of(block, j);
    for (int k = 0; k < kCorners; k += 2) {
      const int64_t row = first + step_to(k);
      for (int64_t c = 0; c < 2 * grid.channels; c += kLine / sizeof(T)) {
        if (reads) __builtin_prefetch(volume_in + row + c);
        if (adds) __builtin_prefetch(volume + row + c, 1);
      }
    }
  }

  // Where the channels of the voxel at the lower corner begin.
  RP_HOST_DEVICE int64_t row_of(const Block<T>& block, int j) const {
    const int64_t row = block.corner[2][j] * grid.size[1] + block.corner[1][j];
    return (block.sample * grid.num_voxels() + row * grid.size[0] + block.corner[0][j]) * grid.channels;
  }

  // From there to corner k.
  RP_HOST_DEVICE int64_t step_to(int k) const {
    return ((k & 1) + ((k >> 1 & 1) + (k >> 2) * grid.size[1]) * grid.size[0]) * grid.channels;
  }

  template <bool kAll>
  RP_HOST_DEVICE Corners<T> corners_of(const Block<T>& block, int j, int32_t bits) const {
    Corners<T> corners;
    const int64_t first = row_of(block, j);
    for (int k = 0; k < kCorners; ++k) {
      const int n = kAll ? k : corners.count;
      corners.k[n] = k;
      corners.row[n] = first + step_to(k);
      corners.weight[n] = block.weight[k][j];
      corners.count += kAll ? 1 : bits >> k & 1;
    }
    return corners;
  }

  RP_HOST_DEVICE void point(const Block<T>& block, int j, Vector<T>* products) const {
    if (block.begins[j] && (values || slopes)) {
      if (block.inside[j] == kAllInside) read<true>(block, j, products);
      else read<false>(block, j, products);
    }
    if (volume == nullptr || block.owned[j] == 0) return;
    if (block.owned[j] == kAllInside) add<true>(block, j);
    else add<false>(block, j);
  }

  template <bool kAll>
  RP_HOST_DEVICE void add(const Block<T>& block, int j) const {
    const Corners<T> corners = corners_of<kAll>(block, j, block.owned[j]);
    const int count = kAll ? kCorners : corners.count;
    const int64_t channels = grid.channels;
    const T* const in = values_in + (block.begin + j) * channels;
    int64_t c = 0;
    for (; c + kLanes <= channels; c += kLanes) {
      const Vector<T> value = load(in + c);
#pragma GCC unroll 8
      for (int n = 0; n < count; ++n) {
        T* const to = volume + corners.row[n] + c;
        store(to, fma(corners.weight[n], value, load(to)));
      }
    }
    const int rest = static_cast<int>(channels - c);
    if (rest <= 4) {  // neighbouring points add to the same row, and a number just stored is quick to load
      for (int n = 0; n < count; ++n) {
        T* const to = volume + corners.row[n];
        for (int64_t last = c; last < channels; ++last) to[last] += corners.weight[n] * in[last];
      }
      return;
    }
    const Vector<T> value = load_some(in + c, rest);
    for (int n = 0; n < count; ++n) {
      T* const to = volume + corners.row[n] + c;
      store_some(to, fma(corners.weight[n], value, load_some(to, rest)), rest);
    }
  }

  // The value unless that is null, and with slopes the products of `values_in` with each corner.
  template <bool kAll>
  RP_HOST_DEVICE void read(const Block<T>& block, int j, Vector<T>* products) const {
    const Corners<T> corners = corners_of<kAll>(block, j, block.inside[j]);
    const int64_t row = (block.begin + j) * grid.channels;
    T* const out = values ? values + row : nullptr;
    if (slopes) multiply<kAll>(corners, values_in + row, out, j, products);
    else gather<kAll>(corners, out);
  }

  template <bool kAll>
  RP_HOST_DEVICE void gather(const Corners<T>& corners, T* out) const {
    const int count = kAll ? kCorners : corners.count;
    int64_t c = 0;
    for (; c + kLanes <= grid.channels; c += kLanes) {
      Vector<T> total{};
#pragma GCC unroll 8
      for (int n = 0; n < count; ++n) {
        total = fma(corners.weight[n], load(volume_in + corners.row[n] + c), total);
      }
      store(out + c, total);
    }
    const int rest = static_cast<int>(grid.channels - c);
    if (rest == 0) return;
    Vector<T> total{};
#pragma GCC unroll 8
    for (int n = 0; n < count; ++n) {
      total = fma(corners.weight[n], load_some(volume_in + corners.row[n] + c, rest), total);
    }
    store_some(out + c, total, rest);
  }

  template <bool kAll>
  RP_HOST_DEVICE void multiply(const Corners<T>& corners, const T* in, T* out, int j,
                               Vector<T>* products) const {
    const int count = kAll ? kCorners : corners.count;
    Vector<T> sums[kCorners] = {};
    for (int64_t c = 0; c < grid.channels; c += kLanes) {
      const int some = static_cast<int>(std::min<int64_t>(kLanes, grid.channels - c));
      const Vector<T> value = load_up_to(in + c, some);
      Vector<T> total{};
#pragma GCC unroll 8
      for (int n = 0; n < count; ++n) {
        const Vector<T> found = load_up_to(volume_in + corners.row[n] + c, some);
        sums[n] = fma<T>(value, found, sums[n]);
        total = fma(corners.weight[n], found, total);
      }
      if (out) store_up_to<T>(out + c, total, some);
    }
    T folded[kCorners];
    for (int n = 0; n < kCorners; n += 4) sum_four<T>(sums + n, folded + n);
    for (int n = 0; n < count; ++n) products[corners.k[n]][j] = folded[n];
  }

  RP_HOST_DEVICE void put_slopes(const Block<T>& block, const Vector<T>* products) const {
    Vector<T> total[3] = {};
    for (int k = 0; k < kCorners; ++k) {
      Vector<T> slope[3];
      slope_of(grid, block.cell, directions ? block.along : nullptr, k, slope);
      for (int axis = 0; axis < 3; ++axis) total[axis] = fma<T>(slope[axis], products[k], total[axis]);
    }
    for (int j = 0; block.begin + j < block.end; ++j) {
      if (!block.begins[j]) continue;
      for (int axis = 0; axis < 3; ++axis) slopes[3 * (block.begin + j) + axis] = total[axis][j];
    }
  }
};

template <typename T, typename V>
int run(const Pass<T, V>& pass, int64_t num_threads) {
  const int64_t num_points = pass.batch * pass.grid.num_points;
  if (pass.volume == nullptr) {
    return parallel_for(num_points, kGrain, num_threads,
                        [&](int64_t begin, int64_t end) { pass.run(begin, end, Owner{0, 0}); });
  }
  int num_owners = 1;
  while (num_owners < num_threads && num_points > kGrain) num_owners *= 2;
  return parallel_for(num_points ? num_owners : 0, 1, num_threads, [&](int64_t begin, int64_t end) {
    for (int64_t owner = begin; owner < end; ++owner) {
      pass.run(0, num_points, Owner{num_owners - 1, static_cast<int>(owner)});
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
