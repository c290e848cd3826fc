// Sparse convolution as one product of matrices whose left rows are gathered on the way (implicit GEMM), on
// tensor cores. Rows that read the same cells lie side by side (sparse_conv_plan_cuda.cu); a tile leaves out
// the cells that none of its rows reads, and a warp those that none of its own. Every sum is one thread's and
// has a fixed order.
#include "sparse_conv_mma_cuda.h"

namespace renderpretrain {

constexpr int kTileRows = 128, kStages = 3;
constexpr int kSixteens = 4;           // of a row in a stage
constexpr int kPitch = kSixteens + 1;  // from one row to the next: lanes that read together meet in no bank
constexpr int kWordPitch = 4 * kPitch;
constexpr int kGroups = kTileRows / RP_ROW_GROUP;
constexpr int kWarpRows = kTileRows / kGroups;  // a warp's rows are a group, and half of the columns

// The matrix of each cell, as rows of its columns.
template <typename T>
struct Weights {
  const T* matrix;
  int64_t cell_step, column_step;
  bool mirrored, sixteens;
};

// The next cell that any row of a tile reads, from `cell` on; num_cells where there is none.
__device__ inline int next_cell(const ArrangedRows& rows, const ConvShape& shape, int64_t first_group,
                                int cell) {
  while (cell < shape.num_cells) {
    uint32_t cover = 0;
    for (int i = 0; i < kGroups; ++i) cover |= rows.cover(first_group + i, cell / 32);
    cover >>= cell % 32;
    if (cover != 0) return cell + __ffs(static_cast<int>(cover)) - 1;
    cell = (cell / 32 + 1) * 32;
  }
  return static_cast<int>(shape.num_cells);
}

// Where the walk over cells, and over the channels of each, stands.
struct Place {
  int cell, channel;

  __device__ void go_on(const ArrangedRows& rows, const ConvShape& shape, int64_t first_group, int step) {
    channel += step;
    if (channel >= shape.in_channels) *this = {next_cell(rows, shape, first_group, cell + 1), 0};
  }
};

// One stage of a tile: 64 bytes of every row of features, and of every column of weights.
template <typename T, int kColumns>
struct Stage {
  uint4 rows[kTileRows][kPitch], columns[kColumns][kPitch];
};

// What a thread copies: the same 16 bytes of a few rows, whose inputs it knows, and of a column or two.
template <typename T, int kColumns>
struct Copier {
  static constexpr int kRowsEach = kTileRows * kSixteens / kThreads;
  static constexpr int kEach = 16 / sizeof(T);

  const T* features;
  Weights<T> weights;
  int64_t first_row, first_column;
  bool sixteens;
  int32_t inputs[kRowsEach];

  // Reads, ahead of time, which rows a cell's are.
  __device__ void look_up(const ArrangedRows& rows, const ConvShape& shape, int64_t cell) {
    for (int i = 0; i < kRowsEach; ++i) {
      const int64_t row = first_row + (threadIdx.x + i * kThreads) / kSixteens;
      const bool exists = cell < shape.num_cells && row < shape.num_out;
      inputs[i] = exists ? rows.table[cell * shape.num_out + row] : -1;
    }
  }

  __device__ void copy(const ConvShape& shape, Place place, Stage<T, kColumns>& to) const {
    const int sixteen = threadIdx.x % kSixteens;
    const int64_t channel = place.channel + sixteen * kEach;
    for (int i = 0; i < kRowsEach; ++i) {
      const int row = (threadIdx.x + i * kThreads) / kSixteens;
      const T* const from = inputs[i] >= 0 ? features + inputs[i] * shape.in_channels : nullptr;
      Sixteen<T>{from, channel, shape.in_channels}.copy(&to.rows[row][sixteen], sixteens);
    }
    const int64_t cell = weights.mirrored ? shape.num_cells - 1 - place.cell : place.cell;
    for (int i = threadIdx.x; i < kColumns * kSixteens; i += kThreads) {
      const int64_t column = first_column + i / kSixteens;
      const T* const from = column < shape.out_channels
                                ? weights.matrix + cell * weights.cell_step + column * weights.column_step
                                : nullptr;
      Sixteen<T>{from, channel, shape.in_channels}.copy(&to.columns[i / kSixteens][sixteen],
                                                        weights.sixteens);
    }
  }
};

// sum += one stage, for a warp's rows and columns.
template <typename Product, int kAcross, typename Tile>
__device__ void multiply_stage(const Tile& tile, int first_row, int first_column,
                               float (&sum)[2][kAcross][4]) {
  const uint32_t* const rows = reinterpret_cast<const uint32_t*>(tile.rows);
  const uint32_t* const columns = reinterpret_cast<const uint32_t*>(tile.columns);
  const int group = threadIdx.x % kWarp / 4, of = threadIdx.x % 4;
  for (int word = 0; word < 4 * kSixteens; word += 8) {
    typename Product::template Part<4> a[2];
    typename Product::template Part<2> b[kAcross];
    for (int r = 0; r < 2; ++r) {
      for (int i = 0; i < 4; ++i) {
        const int row = first_row + 16 * r + group + 8 * (i % 2);
        a[r].set(i, rows[row * kWordPitch + word + of + 4 * (i / 2)]);
      }
    }
    for (int c = 0; c < kAcross; ++c) {
      for (int i = 0; i < 2; ++i) {
        b[c].set(i, columns[(first_column + 8 * c + group) * kWordPitch + word + of + 4 * i]);
      }
    }
    for (int r = 0; r < 2; ++r) {
      for (int c = 0; c < kAcross; ++c) Product::multiply(a[r], b[c], sum[r][c]);
    }
  }
}

// A block per tile of 128 rows and kColumns columns.
template <typename Product, int kColumns, typename T>
__global__ void __launch_bounds__(kThreads, 2)
    gather_kernel(const T* features, bool sixteens, Weights<T> weights, ArrangedRows rows, ConvShape shape,
                  float* out) {
  constexpr int kAcross = kColumns / 2 / 8, kChannels = 4 * kSixteens * sizeof(uint32_t) / sizeof(T);
  using Tile = Stage<T, kColumns>;
  __shared__ Tile stages[kStages];
  const int64_t num_panels = (shape.out_channels + kColumns - 1) / kColumns;
  const int64_t tile = blockIdx.x / num_panels, first_group = tile * kGroups;
  const int warp = threadIdx.x / kWarp, warp_row = warp % kGroups * kWarpRows;
  const int warp_column = warp / kGroups * (kColumns / 2);
  Copier<T, kColumns> copier{features,         weights,
                             tile * kTileRows, static_cast<int64_t>(blockIdx.x % num_panels) * kColumns,
                             sixteens,         {}};
  const bool has_columns = copier.first_column + warp_column < shape.out_channels;
  float sum[2][kAcross][4] = {};
  Place now{
      shape.in_channels > 0 ? next_cell(rows, shape, first_group, 0) : static_cast<int>(shape.num_cells), 0};
  Place ahead = now;
  copier.look_up(rows, shape, ahead.cell);
  const auto copy_next = [&](int stage) {
    if (ahead.cell < shape.num_cells) {
      copier.copy(shape, ahead, stages[stage]);
      const int before = ahead.cell;
      ahead.go_on(rows, shape, first_group, kChannels);
      if (ahead.cell != before) copier.look_up(rows, shape, ahead.cell);
    }
    __pipeline_commit();  // of nothing, too: batches are counted
  };
  for (int stage = 0; stage < kStages - 1; ++stage) copy_next(stage);
  for (int stage = 0; now.cell < shape.num_cells; stage = (stage + 1) % kStages) {
    __pipeline_wait_prior(kStages - 2);
    __syncthreads();  // what all copied is there, and all are done with the stage that is written next
    copy_next((stage + kStages - 1) % kStages);
    const uint32_t cover = rows.cover(first_group + warp % kGroups, now.cell / 32);
    if (has_columns && (cover >> now.cell % 32 & 1)) {
      multiply_stage<Product>(stages[stage], warp_row, warp_column, sum);
    }
    now.go_on(rows, shape, first_group, kChannels);
  }
  __pipeline_wait_prior(0);
  const int group = threadIdx.x % kWarp / 4, of = threadIdx.x % 4;
  for (int r = 0; r < 4; ++r) {
    const int64_t row = copier.first_row + warp_row + 8 * r + group;
    if (row >= shape.num_out) continue;
    float* const to = out + rows.order[row] * shape.out_channels;
    for (int c = 0; c < kAcross; ++c) {
      const int64_t column = copier.first_column + warp_column + 8 * c + 2 * of;
      const float* const pair = &sum[r / 2][c][r % 2 * 2];
      if (shape.out_channels % 2 == 0 && column < shape.out_channels) {
        *reinterpret_cast<float2*>(to + column) = make_float2(pair[0], pair[1]);
      } else if (column < shape.out_channels) {
        to[column] = pair[0];
        if (column + 1 < shape.out_channels) to[column + 1] = pair[1];
      }
    }
  }
}

template <typename Product, int kColumns, typename T>
int gather(const T* features, const Weights<T>& weights, const ArrangedRows& rows, const ConvShape& shape,
           float* out, void* stream) {
  const int64_t num_tiles = (shape.num_out + kTileRows - 1) / kTileRows;
  const int64_t num_panels = (shape.out_channels + kColumns - 1) / kColumns;
  return launch(gather_kernel<Product, kColumns, T>, num_tiles * num_panels * kThreads, stream, features,
                reads_sixteens(features, shape.in_channels), weights, rows, shape, out);
}

}  // namespace renderpretrain

using namespace renderpretrain;

int rp_sparse_conv3d_mma_cuda(int64_t type, const void* features, const void* weights, const int32_t* table,
                              const int64_t* order, const uint32_t* covers, int64_t num_in, int64_t num_out,
                              int64_t num_cells, int64_t in_channels, int64_t out_channels, int64_t cell_step,
                              int64_t column_step, int64_t mirrored, int64_t rounded, float* out,
                              void* stream) {
  return with_product(type, rounded != 0, [&](auto product) {
    using Product = decltype(product);
    using T = typename Product::Stored;
    const ConvShape shape{num_in, num_out, num_cells, in_channels, out_channels};
    const ArrangedRows rows(table, order, covers, shape);
    const T* const matrix = static_cast<const T*>(weights);
    const bool sixteens = reads_sixteens(matrix, cell_step) && reads_sixteens(matrix, column_step) &&
                          reads_sixteens(matrix, in_channels);
    const Weights<T> given{matrix, cell_step, column_step, mirrored != 0, sixteens};
    const T* const from = static_cast<const T*>(features);
    if (out_channels <= 32) return gather<Product, 32>(from, given, rows, shape, out, stream);
    return gather<Product, 64>(from, given, rows, shape, out, stream);
  });
}
