// Tiled matrix products with gathered rows, on cards without tensor cores and in float64. A block owns what
// it writes and adds in a fixed order: results are the same in every run.
#include "sparse_conv_cuda.h"

namespace renderpretrain {

constexpr int kTileRows = 128, kTileColumns = 32, kTileDepth = 16;  // forward
constexpr int kSquare = 32;                                         // both sides of a gradient's tile
constexpr int kEach = 4;                                            // rows, and columns, of one thread

// out: a block per tile of 128 x 32, a thread per 4 x 4 of them.
template <typename T>
__global__ void forward_kernel(const T* features, const T* kernel, const int32_t* inputs, ConvShape shape,
                               T* out) {
  __shared__ T rows[kTileDepth][kTileRows + 1];
  __shared__ T weights[kTileDepth][kTileColumns];
  __shared__ int64_t input[kTileRows];
  const int64_t num_panels = (shape.out_channels + kTileColumns - 1) / kTileColumns;
  const int64_t first_row = blockIdx.x / num_panels * kTileRows;
  const int64_t first_column = blockIdx.x % num_panels * kTileColumns;
  const int row = threadIdx.x / (kTileColumns / kEach) * kEach;
  const int column = threadIdx.x % (kTileColumns / kEach) * kEach;
  T sum[kEach][kEach] = {};
  for (int64_t cell = 0; cell < shape.num_cells; ++cell) {
    int64_t mine = -1;
    if (threadIdx.x < kTileRows) {
      mine = input_of(inputs, shape, cell, first_row + threadIdx.x);
      input[threadIdx.x] = mine;
    }
    if (!__syncthreads_or(mine >= 0)) continue;
    for (int64_t first = 0; first < shape.in_channels; first += kTileDepth) {
      for (int i = threadIdx.x; i < kTileRows * kTileDepth; i += kThreads) {
        const int64_t from = input[i / kTileDepth], channel = first + i % kTileDepth;
        const bool exists = from >= 0 && channel < shape.in_channels;
        rows[i % kTileDepth][i / kTileDepth] = exists ? features[from * shape.in_channels + channel] : T{};
      }
      for (int i = threadIdx.x; i < kTileDepth * kTileColumns; i += kThreads) {
        const int64_t channel = first + i / kTileColumns, to = first_column + i % kTileColumns;
        const bool exists = channel < shape.in_channels && to < shape.out_channels;
        const int64_t weight = (cell * shape.in_channels + channel) * shape.out_channels + to;
        weights[i / kTileColumns][i % kTileColumns] = exists ? kernel[weight] : T{};
      }
      __syncthreads();
      for (int c = 0; c < kTileDepth; ++c) {
        for (int r = 0; r < kEach; ++r) {
          for (int d = 0; d < kEach; ++d) {
            sum[r][d] = fma(rows[c][row + r], weights[c][column + d], sum[r][d]);
          }
        }
      }
      __syncthreads();
    }
  }
  for (int r = 0; r < kEach; ++r) {
    for (int d = 0; d < kEach; ++d) {
      const int64_t to_row = first_row + row + r, to_column = first_column + column + d;
      if (to_row < shape.num_out && to_column < shape.out_channels) {
        out[to_row * shape.out_channels + to_column] = sum[r][d];
      }
    }
  }
}

// partial (slabs, cells, in_channels, out_channels): a block per slab, cell and tile of 32 x 32, a thread per
// four of its rows in one column.
template <typename T>
__global__ void kernel_gradient_kernel(const T* grad, const T* features, const int32_t* inputs,
                                       ConvShape shape, int64_t num_slabs, T* partial) {
  __shared__ T rows[kSquare][kSquare], grads[kSquare][kSquare];  // (outputs, channels)
  __shared__ int64_t input[kSquare];
  const int64_t num_columns = (shape.out_channels + kSquare - 1) / kSquare;
  const int64_t num_tiles = (shape.in_channels + kSquare - 1) / kSquare * num_columns;
  const int64_t tile = blockIdx.x % num_tiles, cell = blockIdx.x / num_tiles % shape.num_cells;
  const int64_t slab = blockIdx.x / num_tiles / shape.num_cells;
  const int64_t first_channel = tile / num_columns * kSquare, first_column = tile % num_columns * kSquare;
  const int row = threadIdx.x / kSquare * kEach, column = threadIdx.x % kSquare;
  const int64_t end = shape.num_out * (slab + 1) / num_slabs;
  T sum[kEach] = {};
  for (int64_t first = shape.num_out * slab / num_slabs; first < end; first += kSquare) {
    int64_t mine = -1;
    if (threadIdx.x < kSquare) {
      if (first + threadIdx.x < end) mine = input_of(inputs, shape, cell, first + threadIdx.x);
      input[threadIdx.x] = mine;
    }
    if (!__syncthreads_or(mine >= 0)) continue;
    for (int i = threadIdx.x; i < kSquare * kSquare; i += kThreads) {
      const int n = i / kSquare, c = i % kSquare;
      const int64_t from = input[n], channel = first_channel + c, to = first_column + c;
      const bool exists = from >= 0;
      rows[n][c] = exists && channel < shape.in_channels ? features[from * shape.in_channels + channel] : T{};
      grads[n][c] = exists && to < shape.out_channels ? grad[(first + n) * shape.out_channels + to] : T{};
    }
    __syncthreads();
    for (int n = 0; n < kSquare; ++n) {
      for (int r = 0; r < kEach; ++r) sum[r] = fma(rows[n][row + r], grads[n][column], sum[r]);
    }
    __syncthreads();
  }
  for (int r = 0; r < kEach; ++r) {
    const int64_t channel = first_channel + row + r, to = first_column + column;
    const int64_t to_row = (slab * shape.num_cells + cell) * shape.in_channels + channel;
    if (channel < shape.in_channels && to < shape.out_channels) {
      partial[to_row * shape.out_channels + to] = sum[r];
    }
  }
}

}  // namespace renderpretrain

using namespace renderpretrain;

static_assert(kThreads * kEach * kEach == kTileRows * kTileColumns, "a thread per 4 x 4 of a tile");
static_assert(kThreads * kEach == kSquare * kSquare, "a thread per 4 of a tile");

int rp_sparse_conv3d_cuda(int64_t type, const void* features, const void* kernel, const int32_t* inputs,
                          int64_t num_in, int64_t num_out, int64_t num_cells, int64_t in_channels,
                          int64_t out_channels, void*, void* out, void* stream) {
  return with_type(type, [&](auto zero) {
    using T = decltype(zero);
    const int64_t num_tiles = (num_out + kTileRows - 1) / kTileRows;
    const int64_t num_panels = (out_channels + kTileColumns - 1) / kTileColumns;
    return launch(forward_kernel<T>, num_tiles * num_panels * kThreads, stream,
                  static_cast<const T*>(features), static_cast<const T*>(kernel), inputs,
                  ConvShape{num_in, num_out, num_cells, in_channels, out_channels}, static_cast<T*>(out));
  });
}

int rp_sparse_conv3d_backward_kernel_cuda(int64_t type, const void* grad, const void* features,
                                          const int32_t* inputs, int64_t num_in, int64_t num_out,
                                          int64_t num_cells, int64_t in_channels, int64_t out_channels,
                                          int64_t num_slabs, void* partial, void* grad_kernel, void* stream) {
  return with_type(type, [&](auto zero) {
    using T = decltype(zero);
    const int64_t num_tiles =
        (in_channels + kSquare - 1) / kSquare * ((out_channels + kSquare - 1) / kSquare);
    const int code = launch(kernel_gradient_kernel<T>, num_slabs * num_cells * num_tiles * kThreads, stream,
                            static_cast<const T*>(grad), static_cast<const T*>(features), inputs,
                            ConvShape{num_in, num_out, num_cells, in_channels, out_channels}, num_slabs,
                            static_cast<T*>(partial));
    if (code != RP_OK) return code;
    const int64_t size = num_cells * in_channels * out_channels;
    return launch(add_slabs_kernel<T>, size, stream, static_cast<const T*>(partial), size, num_slabs,
                  static_cast<T*>(grad_kernel));
  });
}
