// Output rows are cut into tiles, output columns into panels as wide as the sums that registers hold. A task
// is one panel of one tile (forward) or of one slab of tiles (gradient by the kernel), and owns what it
// writes: results do not depend on the number of threads. Within a tile the pairs of each kernel cell are
// listed first, so missing neighbours cost nothing.
#include <algorithm>

#include "parallel.h"
#include "register.h"

using namespace renderpretrain;

namespace {

// Sums that registers hold: kRows by kVectors, beside kVectors weights and a factor.
#if defined(__AVX512F__)
constexpr int kRows = 8;
#else
constexpr int kRows = 6;
#endif
constexpr int kVectors = 2;
constexpr int64_t kTile = 256;     // output rows; a panel of their sums fits the first cache
constexpr int64_t kSpan = 512;     // the same for the gradient by the kernel, whose sums are in registers
constexpr int64_t kChannels = 64;  // input channels of one of its tasks

struct Shape {
  int64_t num_in, num_out, num_cells, in_channels, out_channels;
};

struct Range {
  int64_t begin, end;
};

// Pairs of one kernel cell in one tile: input row, and output row within the tile.
struct Pairs {
  int64_t count;
  int32_t input[kSpan + kRows], output[kSpan + kRows];
};

// -1, and whatever else is no row of the input, is none.
void list_pairs(const int32_t* inputs, int64_t num_rows, int64_t num_in, Pairs* pairs) {
  int64_t count = 0, row = 0;
  const uint32_t limit = static_cast<uint32_t>(num_in);
#if defined(__AVX512F__)
  const __m512i steps = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
  for (; row + 16 <= num_rows; row += 16) {
    const __m512i input = _mm512_loadu_si512(inputs + row);
    const __m512i output = _mm512_add_epi32(steps, _mm512_set1_epi32(static_cast<int>(row)));
    const __mmask16 exists = _mm512_cmplt_epu32_mask(input, _mm512_set1_epi32(static_cast<int>(limit)));
    _mm512_mask_compressstoreu_epi32(pairs->input + count, exists, input);
    _mm512_mask_compressstoreu_epi32(pairs->output + count, exists, output);
    count += __builtin_popcount(exists);
  }
#endif
  for (; row < num_rows; ++row) {
    pairs->input[count] = inputs[row];
    pairs->output[count] = static_cast<int32_t>(row);
    count += static_cast<uint32_t>(inputs[row]) < limit;
  }
  pairs->count = count;
}

// sums[r] += rows[r] @ panel, for kRows rows of `depth` numbers and a panel (depth, V registers).
template <int V, typename T>
RP_HOST_DEVICE void multiply(const T* const* rows, const T* panel, int64_t depth, T* const* sums) {
  Register<T> sum[kRows][V];
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 2
    for (int v = 0; v < V; ++v) sum[r][v] = load_register(sums[r] + v * kWidth<T>);
  }
  for (int64_t c = 0; c < depth; ++c) {
    Register<T> weight[V];
#pragma GCC unroll 2
    for (int v = 0; v < V; ++v) weight[v] = load_register(panel + (c * V + v) * kWidth<T>);
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 2
      for (int v = 0; v < V; ++v) sum[r][v] = multiply_add(rows[r][c], weight[v], sum[r][v]);
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 2
    for (int v = 0; v < V; ++v) store_register(sums[r] + v * kWidth<T>, sum[r][v]);
  }
}

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

// The columns of one panel.
template <typename T>
struct Panel {
  static constexpr int64_t kMost = kVectors * kWidth<T>;
  int64_t first, width;  // columns
  bool wide;             // more than one register

  Panel(int64_t index, int64_t columns)
      : first(index * kMost), width(std::min(kMost, columns - first)), wide(width > kWidth<T>) {}

  static int64_t count(int64_t columns) { return (columns + kMost - 1) / kMost; }
};

template <typename T>
struct Forward {
  Shape shape;
  const T *features, *kernel;
  const int32_t* inputs;
  T *panels, *out;

  // The kernel's columns of a panel, (cells, in_channels, V registers), zero behind the last.
  T* packed(const Panel<T>& panel) const {
    return panels + panel.first * shape.num_cells * shape.in_channels;
  }

  void pack(const Panel<T>& panel, int64_t cell) const {
    const int64_t stride = panel.wide ? Panel<T>::kMost : kWidth<T>;
    for (int64_t c = 0; c < shape.in_channels; ++c) {
      const int64_t row = cell * shape.in_channels + c;
      T* const to = packed(panel) + row * stride;
      std::copy_n(kernel + row * shape.out_channels + panel.first, panel.width, to);
      std::fill(to + panel.width, to + stride, T{});
    }
  }

  template <int V>
  void run(int64_t first, const Panel<T>& panel) const {
    const int64_t num_rows = std::min(kTile, shape.num_out - first), depth = shape.in_channels;
    alignas(64) T sums[kTile + 1][V * kWidth<T>];  // the last takes what is computed to fill up kRows
    std::fill(sums[0], sums[num_rows], T{});
    std::fill(sums[kTile], sums[kTile + 1], T{});
    Pairs pairs;
    for (int64_t k = 0; k < shape.num_cells; ++k) {
      list_pairs(inputs + k * shape.num_out + first, num_rows, shape.num_in, &pairs);
      for (int r = 0; r < kRows; ++r) {
        pairs.input[pairs.count + r] = pairs.input[0];
        pairs.output[pairs.count + r] = kTile;
      }
      const T* const weights = packed(panel) + k * depth * V * kWidth<T>;
      for (int64_t p = 0; p < pairs.count; p += kRows) {
        const T* from[kRows];
        T* to[kRows];
        for (int r = 0; r < kRows; ++r) {
          from[r] = features + pairs.input[p + r] * depth;
          to[r] = sums[pairs.output[p + r]];
        }
        multiply<V>(from, weights, depth, to);
      }
    }
    for (int64_t r = 0; r < num_rows; ++r) {
      std::copy_n(sums[r], panel.width, out + (first + r) * shape.out_channels + panel.first);
    }
  }

  int run_all(int64_t num_threads) const {
    const int64_t num_panels = Panel<T>::count(shape.out_channels);
    parallel_for(num_panels * shape.num_cells, 1, num_threads, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        pack(Panel<T>(i / shape.num_cells, shape.out_channels), i % shape.num_cells);
      }
    });
    const int64_t num_tiles = (shape.num_out + kTile - 1) / kTile;
    return parallel_for(num_tiles * num_panels, 1, num_threads, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        const Panel<T> panel(i % num_panels, shape.out_channels);
        const int64_t first = i / num_panels * kTile;
        panel.wide ? run<kVectors>(first, panel) : run<1>(first, panel);
      }
    });
  }
};

template <typename T>
struct KernelGradient {
  Shape shape;
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
    const int64_t num_rows = std::min(kSpan, shape.num_out - first);
    Rows<T> tile{grad + first * shape.out_channels + panel.first, shape.out_channels};
    alignas(64) T padded[kSpan][V * kWidth<T>];
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
    const int64_t num_tiles = (shape.num_out + kSpan - 1) / kSpan;
    for (int64_t tile = num_tiles * slab / num_slabs; tile < num_tiles * (slab + 1) / num_slabs; ++tile) {
      panel.wide ? run_tile<kVectors>(tile * kSpan, channels, panel, to)
                 : run_tile<1>(tile * kSpan, channels, panel, to);
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

int rp_sparse_conv3d_cpu(int64_t type, const void* features, const void* kernel, const int32_t* inputs,
                         int64_t num_in, int64_t num_out, int64_t num_cells, int64_t in_channels,
                         int64_t out_channels, void* panels, void* out, int64_t num_threads) {
  return with_type(type, [&](auto zero) {
    using T = decltype(zero);
    const Forward<T> work{{num_in, num_out, num_cells, in_channels, out_channels},
                          static_cast<const T*>(features),
                          static_cast<const T*>(kernel),
                          inputs,
                          static_cast<T*>(panels),
                          static_cast<T*>(out)};
    return work.run_all(num_threads);
  });
}

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
