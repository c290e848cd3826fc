// The gradient by the kernel on tensor cores: per cell features^T grad over the rows that read it. Every sum
// is one thread's and has a fixed order.
#include "sparse_conv_mma_cuda.h"

namespace renderpretrain {

constexpr int kSide = 64;                  // both sides of a tile
constexpr int kSidePitch = kSide + 8;      // from one word to the next below: lanes meet in no bank
constexpr int kPairs = RP_ROW_GROUP / 2;   // rows are read two at a time
constexpr int kParts = RP_PARTS_PER_SLAB;  // of a block's warps, each part adds up every so many-th step
constexpr int kWarpSide = kSide / 2;       // of the part of a tile that is a warp's

// Groups of rows, within a slab, of which any reads a cell. All lanes of a warp ask together.
struct Groups {
  int64_t base, end;
  uint32_t open;

  // The next one, or -1.
  __device__ int64_t next(const ArrangedRows& rows, int64_t cell) {
    while (open == 0) {
      base += kWarp;
      if (base >= end) return -1;
      const int64_t mine = base + threadIdx.x % kWarp;
      open = __ballot_sync(kWholeWarp, mine < end && (rows.cover(mine, cell / 32) >> cell % 32 & 1));
    }
    const int first = __ffs(static_cast<int>(open)) - 1;
    open &= open - 1;
    return base + first;
  }
};

// 16 bytes of two neighbouring rows of one matrix.
template <typename T>
struct Pair {
  const T* matrix;
  int64_t first, channels;
  bool sixteens;
  int32_t rows[2];  // -1 for none

  __device__ uint4 read(int i) const {
    const T* const row = rows[i] >= 0 ? matrix + rows[i] * channels : nullptr;
    return Sixteen<T>{row, first, channels}.read(sixteens);
  }
};

// Words of a tile, one below the other along the sum: numbers of 32 bits, or two of 16 of neighbouring rows.
template <typename T>
struct Side {
  static constexpr int kWords = RP_ROW_GROUP * sizeof(T) / sizeof(uint32_t);
  static constexpr int kEach = 16 / sizeof(T);
  static constexpr int kAcross = kSide / kEach;  // sixteens of a row

  uint4 words[kWords][kSidePitch / 4];

  __device__ void put(int pair, int sixteen, const uint4& upper, const uint4& lower) {
    if constexpr (sizeof(T) == sizeof(uint32_t)) {
      words[2 * pair][sixteen] = upper;
      words[2 * pair + 1][sixteen] = lower;
    } else {
      const uint32_t a[4] = {upper.x, upper.y, upper.z, upper.w}, b[4] = {lower.x, lower.y, lower.z, lower.w};
      uint32_t both[8];
      for (int i = 0; i < 4; ++i) {
        both[2 * i] = (a[i] & 0xffffu) | b[i] << 16;
        both[2 * i + 1] = a[i] >> 16 | (b[i] & 0xffff0000u);
      }
      words[pair][2 * sixteen] = make_uint4(both[0], both[1], both[2], both[3]);
      words[pair][2 * sixteen + 1] = make_uint4(both[4], both[5], both[6], both[7]);
    }
  }

  __device__ uint32_t word(int below, int across) const {
    return reinterpret_cast<const uint32_t*>(words)[below * kSidePitch + across];
  }
};

template <typename T>
struct Sides {
  Side<T> features, grads;
};

// What a thread reads of a group of rows: pairs of the features, then of the gradients.
template <typename T>
struct Reader {
  static constexpr int kOfEach = kPairs * Side<T>::kAcross;  // pairs of 16 bytes of one matrix
  static constexpr int kMine = 2 * kOfEach / kThreads;

  Pair<T> pairs[kMine];
  uint4 read[kMine][2];

  // Reads, ahead of time, which rows a group's are; of no group (-1) there are none.
  __device__ void look_up(const ArrangedRows& rows, const ConvShape& shape, int64_t cell, int64_t group) {
    for (int i = 0; i < kMine; ++i) {
      const int place = threadIdx.x + i * kThreads, pair = place % kOfEach / Side<T>::kAcross;
      for (int r = 0; r < 2; ++r) {
        const int64_t row = group * RP_ROW_GROUP + 2 * pair + r;
        int32_t found = -1;
        if (group >= 0 && row < shape.num_out) {
          found = rows.table[cell * shape.num_out + row];
          if (found >= 0 && place >= kOfEach) found = static_cast<int32_t>(rows.order[row]);
        }
        pairs[i].rows[r] = found;
      }
    }
  }

  __device__ void fetch() {
    for (int i = 0; i < kMine; ++i) {
      for (int r = 0; r < 2; ++r) read[i][r] = pairs[i].read(r);
    }
  }

  __device__ void put(Sides<T>& sides) const {
    for (int i = 0; i < kMine; ++i) {
      const int place = threadIdx.x + i * kThreads, within = place % kOfEach;
      Side<T>& side = place < kOfEach ? sides.features : sides.grads;
      side.put(within / Side<T>::kAcross, within % Side<T>::kAcross, read[i][0], read[i][1]);
    }
  }
};

// sum += features^T grads of one group of rows, for a warp's part of the tile.
template <typename Product, typename T>
__device__ void multiply_group(const Sides<T>& sides, int part, int row, int column, float (&sum)[2][4][4]) {
  const int group = threadIdx.x % kWarp / 4, of = threadIdx.x % 4;
  for (int below = 8 * part + of; below < Side<T>::kWords; below += 8 * kParts) {
    typename Product::template Part<4> a[2];
    typename Product::template Part<2> b[4];
    for (int r = 0; r < 2; ++r) {
      for (int i = 0; i < 4; ++i) {
        a[r].set(i, sides.features.word(below + 4 * (i / 2), row + 16 * r + group + 8 * (i % 2)));
      }
    }
    for (int c = 0; c < 4; ++c) {
      for (int i = 0; i < 2; ++i) b[c].set(i, sides.grads.word(below + 4 * i, column + 8 * c + group));
    }
    for (int r = 0; r < 2; ++r) {
      for (int c = 0; c < 4; ++c) Product::multiply(a[r], b[c], sum[r][c]);
    }
  }
}

// partial (slabs, parts, cells, in_channels, out_channels): a block per slab, cell and tile of 64 x 64.
template <typename Product, typename T>
__global__ void __launch_bounds__(kThreads, 2)
    outer_kernel(const T* grad, const T* features, ArrangedRows rows, ConvShape shape, int64_t num_slabs,
                 bool grad_sixteens, bool feature_sixteens, float* partial) {
  __shared__ Sides<T> buffers[2];
  const int64_t num_columns = (shape.out_channels + kSide - 1) / kSide;
  const int64_t num_tiles = (shape.in_channels + kSide - 1) / kSide * num_columns;
  const int64_t tile = blockIdx.x % num_tiles, cell = blockIdx.x / num_tiles % shape.num_cells;
  const int64_t slab = blockIdx.x / num_tiles / shape.num_cells;
  const int64_t first_row = tile / num_columns * kSide, first_column = tile % num_columns * kSide;
  const int warp = threadIdx.x / kWarp, part = warp / 4;
  const int warp_row = warp % 4 / 2 * kWarpSide, warp_column = warp % 2 * kWarpSide;
  const bool exists =
      first_row + warp_row < shape.in_channels && first_column + warp_column < shape.out_channels;
  Groups groups{rows.num_groups * slab / num_slabs - kWarp, rows.num_groups * (slab + 1) / num_slabs, 0};
  using Mine = Reader<T>;
  Mine reader;
  for (int i = 0; i < Mine::kMine; ++i) {
    const int place = threadIdx.x + i * kThreads, first = place % Side<T>::kAcross * Side<T>::kEach;
    if (place < Mine::kOfEach) {
      reader.pairs[i] = {features, first_row + first, shape.in_channels, feature_sixteens, {}};
    } else {
      reader.pairs[i] = {grad, first_column + first, shape.out_channels, grad_sixteens, {}};
    }
  }
  float sum[2][4][4] = {};
  int64_t group = groups.next(rows, cell);
  reader.look_up(rows, shape, cell, group);
  reader.fetch();
  int64_t next = group >= 0 ? groups.next(rows, cell) : -1;
  reader.look_up(rows, shape, cell, next);
  for (int buffer = 0; group >= 0; buffer = 1 - buffer) {
    reader.put(buffers[buffer]);
    __syncthreads();  // also: all are done with the other buffer
    reader.fetch();
    group = next;
    if (next >= 0) next = groups.next(rows, cell);
    reader.look_up(rows, shape, cell, next);
    if (exists) multiply_group<Product>(buffers[buffer], part, warp_row, warp_column, sum);
  }
  const int lane_row = threadIdx.x % kWarp / 4, lane_column = threadIdx.x % 4 * 2;
  float* const to =
      partial + ((slab * kParts + part) * shape.num_cells + cell) * shape.in_channels * shape.out_channels;
  for (int r = 0; r < 4; ++r) {
    const int64_t row = first_row + warp_row + 8 * r + lane_row;
    for (int c = 0; c < 8; ++c) {
      const int64_t column = first_column + warp_column + c / 2 * 8 + lane_column + c % 2;
      if (row < shape.in_channels && column < shape.out_channels) {
        to[row * shape.out_channels + column] = sum[r / 2][c / 2][r % 2 * 2 + c % 2];
      }
    }
  }
}

}  // namespace renderpretrain

using namespace renderpretrain;

static_assert(kThreads / kWarp == 4 * kParts, "four warps to a tile, for each part");

int rp_sparse_conv3d_mma_backward_kernel_cuda(int64_t type, const void* grad, const void* features,
                                              const int32_t* table, const int64_t* order,
                                              const uint32_t* covers, int64_t num_in, int64_t num_out,
                                              int64_t num_cells, int64_t in_channels, int64_t out_channels,
                                              int64_t rounded, int64_t num_slabs, float* partial,
                                              float* grad_kernel, void* stream) {
  return with_product(type, rounded != 0, [&](auto product) {
    using Product = decltype(product);
    using T = typename Product::Stored;
    const ConvShape shape{num_in, num_out, num_cells, in_channels, out_channels};
    const ArrangedRows rows(table, order, covers, shape);
    const int64_t num_tiles = (in_channels + kSide - 1) / kSide * ((out_channels + kSide - 1) / kSide);
    const T* const upstream = static_cast<const T*>(grad);
    const T* const from = static_cast<const T*>(features);
    const int code = launch(outer_kernel<Product, T>, num_slabs * num_cells * num_tiles * kThreads, stream,
                            upstream, from, rows, shape, num_slabs, reads_sixteens(upstream, out_channels),
                            reads_sixteens(from, in_channels), partial);
    if (code != RP_OK) return code;
    const int64_t size = num_cells * in_channels * out_channels;
    return launch(add_slabs_kernel<float>, size, stream, static_cast<const float*>(partial), size,
                  num_slabs * kParts, grad_kernel);
  });
}
