// The points of tiles: a block has a range of points, leaves out those that do not count, and takes 64 of the
// rest at a time. Each block has its own sums for parameters, which are added in a fixed order, and there are
// at most so many blocks on every card: these sums are the same on all of them.
#pragma once

#include <algorithm>

#include "tile_cuda.h"

namespace renderpretrain {

// Four and one for each of the 132 processors of an H100: as many as run at a time, or fewer where their
// scratch would take more than kMostScratch numbers.
constexpr int64_t kMostBlocks = 528, kLeastBlocks = 132, kMostScratch = 1 << 26;

// Points of a block that has so many numbers of scratch.
inline int64_t points_of_block(int64_t num_points, int64_t scratch) {
  const int64_t fit = kMostScratch / std::max<int64_t>(1, scratch);
  const int64_t blocks = std::min(kMostBlocks, std::max(kLeastBlocks, fit));
  const int64_t tiles = (num_points + kTile - 1) / kTile;
  return std::max<int64_t>(1, (tiles + blocks - 1) / blocks) * kTile;
}

// What a block has in shared memory of them.
struct Waiting {
  int64_t points[kTile + kTileThreads];  // those that count, the tile's first
  int counts[kTileWarps];
};

class TilePoints {
 public:
  int count = 0;  // of the tile

  // `valid` may be null: then all points count.
  __device__ TilePoints(const bool* valid, int64_t num_points, int64_t range, Waiting* waiting)
      : valid(valid), waiting(waiting), next(blockIdx.x * range) {
    end = num_points - next < range ? num_points : next + range;
  }

  __device__ int64_t operator[](int j) const { return waiting->points[j]; }

  // Takes the next points that count; false if there is none. Calls skip(first, number) with all that were
  // looked at.
  template <typename Skip>
  __device__ bool choose(Skip skip) {
    drop_tile();
    while (num_waiting < kTile && next < end) {
      const int64_t index = next + threadIdx.x;
      const int counts = index < end && (valid == nullptr || valid[index]);
      const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp, up_to = sum_up_to(counts, lane);
      if (lane == kWarp - 1) waiting->counts[warp] = up_to;
      __syncthreads();
      int before = num_waiting + up_to - counts, all = 0;
      for (int w = 0; w < kTileWarps; ++w) {
        if (w < warp) before += waiting->counts[w];
        all += waiting->counts[w];
      }
      if (counts) waiting->points[before] = index;
      skip(next, static_cast<int>(end - next < kTileThreads ? end - next : kTileThreads));
      num_waiting += all;
      next += kTileThreads;
      __syncthreads();
    }
    count = num_waiting < kTile ? num_waiting : kTile;
    return count > 0;
  }

  // Rows of the tile from those of all points, of which `samples` share one; zeros from none, and where the
  // tile has no point.
  template <typename T>
  __device__ void take(const T* from, int width, int64_t samples, T* rows) const {
    for (int j = threadIdx.x / kNear; j < kTile; j += kTileThreads / kNear) {
      const bool holds = from && j < count;
      const int64_t index = holds ? (*this)[j] : 0, row = samples == 1 ? index : index / samples;
      for (int c = threadIdx.x % kNear; c < width; c += kNear) {
        rows[c * kRow + j] = holds ? from[row * width + c] : T(0);
      }
    }
    __syncthreads();
  }

  // And back, unless there is no place for it. Without a barrier.
  template <typename T>
  __device__ void put(const T* rows, int width, T* to) const {
    for_points(count, to ? width : 0, [=](int j, int c) { to[(*this)[j] * width + c] = rows[c * kRow + j]; });
  }

  // Zeros for those of some points that do not count.
  template <typename T>
  __device__ void clear(int64_t first, int some, int width, T* to) const {
    for_points(some, to && valid ? width : 0, [=](int j, int c) {
      if (!valid[first + j]) to[(first + j) * width + c] = 0;
    });
  }

 private:
  const bool* valid;
  Waiting* waiting;
  int64_t next, end;
  int num_waiting = 0;

  // Points behind the tile that was worked on come first.
  __device__ void drop_tile() {
    num_waiting -= count;
    const bool moves = static_cast<int>(threadIdx.x) < num_waiting;
    const int64_t kept = moves ? waiting->points[count + threadIdx.x] : 0;
    __syncthreads();
    if (moves) waiting->points[threadIdx.x] = kept;
    count = 0;
    __syncthreads();
  }
};

constexpr int kSumThreads = 8, kSums = 32;

// Gradients by parameters from the sums of all blocks; kSumThreads threads add every so many-th of them.
template <typename T>
__global__ void sum_kernel(const T* sums, int64_t num_sums, int64_t num_parameters, T* totals) {
  __shared__ T parts[kSumThreads][kSums];
  const int own = threadIdx.x % kSums, part = threadIdx.x / kSums;
  const int64_t i = blockIdx.x * static_cast<int64_t>(kSums) + own;
  T total = 0;
  for (int64_t b = part; i < num_parameters && b < num_sums; b += kSumThreads)
    total += sums[b * num_parameters + i];
  parts[part][own] = total;
  __syncthreads();
  if (part != 0 || i >= num_parameters) return;
  for (int p = 1; p < kSumThreads; ++p) total += parts[p][own];
  totals[i] = total;
}

// Sums of parameters, `num_sums` times as many as there are, to one.
template <typename T>
int add_sums(const T* sums, int64_t num_sums, int64_t num_parameters, T* totals, void* stream) {
  const int64_t blocks = (num_parameters + kSums - 1) / kSums;
  return launch_blocks(sum_kernel<T>, blocks, kSums * kSumThreads, stream, sums, num_sums, num_parameters,
                       totals);
}

}  // namespace renderpretrain
