// The gradient by the kernel. A task is some input channels and one panel of a slab of tiles: it owns that
// part of the slab's sum, and slabs are added up in order, so results do not depend on the number of threads.
#include "common/parallel.h"
#include "sparse_conv_cpu.h"

using namespace renderpretrain;

namespace {

constexpr int64_t kTile = kMostRows;  // output rows: the more, the longer sums stay in registers
constexpr int64_t kChannels = 64;     // input channels of a task

// Rows in memory, of which some columns are read.
template <typename T>
struct Rows {
  const T* first;
  int64_t stride;
};

// sums (R, V registers) = sum over pairs of R numbers of the input row times V registers of the gradient's.
template <int R, int V, typename T>
RP_HOST_DEVICE void multiply_pairs(Rows<T> features, Rows<T> grad, const Pairs& pairs, T* sums) {
  Register<T> sum[R][V] = {};
  for (int64_t p = 0; p < pairs.count; ++p) {
    const T* const row = features.first + pairs.input[p] * features.stride;
    const T* const behind = grad.first + pairs.output[p] * grad.stride;
    Register<T> g[V];
#pragma GCC unroll 2
    for (int v = 0; v < V; ++v) g[v] = load_register(behind + v * kWidth<T>);
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) {
#pragma GCC unroll 2
      for (int v = 0; v < V; ++v) sum[r][v] = multiply_add(row[r], g[v], sum[r][v]);
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 2
    for (int v = 0; v < V; ++v) store_register(sums + (r * V + v) * kWidth<T>, sum[r][v]);
  }
}

template <typename T>
struct KernelGradient {
  ConvShape shape;
  const T *grad, *features;
  const int32_t* inputs;
  int64_t num_slabs;
  T *partial, *grad_kernel;

  // R input channels of one cell: their part of the slab's sum grows by that of the tile's pairs.
  template <int R, int V>
  void add(const Pairs& pairs, Rows<T> tile, int64_t channel, const Panel<T>& panel, T* to) const {
    alignas(64) T sums[R][V * kWidth<T>];
    multiply_pairs<R, V>({features + channel, shape.in_channels}, tile, pairs, sums[0]);
    for (int r = 0; r < R; ++r) {
      T* const row = to + (channel + r) * shape.out_channels;
      for (int64_t d = 0; d < panel.width; ++d) row[d] += sums[r][d];
    }
  }

  template <int V>
  void run_tile(int64_t first, Range channels, const Panel<T>& panel, T* slab) const {
    const int64_t num_rows = std::min(kTile, shape.num_out - first);
    Rows<T> tile{grad + first * shape.out_channels + panel.first, shape.out_channels};
    alignas(64) T padded[kTile][V * kWidth<T>];
    if (panel.width < V * kWidth<T>) {
      for (int64_t r = 0; r < num_rows; ++r) {
        std::copy_n(tile.first + r * tile.stride, panel.width, padded[r]);
        std::fill(padded[r] + panel.width, padded[r + 1], T{});
      }
      tile = {padded[0], V * kWidth<T>};
    }
    Pairs pairs;
    for (int64_t k = 0; k < shape.num_cells; ++k) {
      list_pairs(inputs + k * shape.num_out + first, num_rows, shape.num_in, &pairs);
      if (pairs.count == 0) continue;
      T* const to = slab + k * shape.in_channels * shape.out_channels + panel.first;
      int64_t c = channels.begin;
      for (; c + kRows <= channels.end; c += kRows) add<kRows, V>(pairs, tile, c, panel, to);
      for (; c + 4 <= channels.end; c += 4) add<4, V>(pairs, tile, c, panel, to);
      for (; c < channels.end; ++c) add<1, V>(pairs, tile, c, panel, to);
    }
  }

  void run_slab(int64_t slab, Range channels, const Panel<T>& panel) const {
    T* const to = partial + slab * shape.num_cells * shape.in_channels * shape.out_channels;
    for (int64_t k = 0; k < shape.num_cells; ++k) {
      for (int64_t c = channels.begin; c < channels.end; ++c) {
        std::fill_n(to + (k * shape.in_channels + c) * shape.out_channels + panel.first, panel.width, T{});
      }
    }
    const int64_t num_tiles = (shape.num_out + kTile - 1) / kTile;
    for (int64_t tile = num_tiles * slab / num_slabs; tile < num_tiles * (slab + 1) / num_slabs; ++tile) {
      panel.wide ? run_tile<kVectors>(tile * kTile, channels, panel, to)
                 : run_tile<1>(tile * kTile, channels, panel, to);
    }
  }

  int run_all(int64_t num_threads) const {
    const int64_t num_panels = Panel<T>::count(shape.out_channels);
    const int64_t num_blocks = (shape.in_channels + kChannels - 1) / kChannels;
    parallel_for(num_slabs * num_blocks * num_panels, 1, num_threads, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        const int64_t first = i / num_panels % num_blocks * kChannels;
        run_slab(i / num_panels / num_blocks, {first, std::min(first + kChannels, shape.in_channels)},
                 Panel<T>(i % num_panels, shape.out_channels));
      }
    });
    const int64_t size = shape.num_cells * shape.in_channels * shape.out_channels;
    return parallel_for(size, 4096, num_threads, [&](int64_t begin, int64_t end) {
      std::copy(partial + begin, partial + end, grad_kernel + begin);
      for (int64_t slab = 1; slab < num_slabs; ++slab) {
        const T* const part = partial + slab * size;
#pragma GCC ivdep
        for (int64_t i = begin; i < end; ++i) grad_kernel[i] += part[i];
      }
    });
  }
};

}  // namespace

int rp_sparse_conv3d_backward_kernel_cpu(int64_t type, const void* grad, const void* features,
                                         const int32_t* inputs, int64_t num_in, int64_t num_out,
                                         int64_t num_cells, int64_t in_channels, int64_t out_channels,
                                         int64_t num_slabs, void* partial, void* grad_kernel,
                                         int64_t num_threads) {
  return with_type(type, [&](auto zero) {
    using T = decltype(zero);
    const KernelGradient<T> work{{num_in, num_out, num_cells, in_channels, out_channels},
                                 static_cast<const T*>(grad),
                                 static_cast<const T*>(features),
                                 inputs,
                                 num_slabs,
                                 static_cast<T*>(partial),
                                 static_cast<T*>(grad_kernel)};
    return work.run_all(num_threads);
  });
}
