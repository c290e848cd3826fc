// A task is one panel of one tile: its sums stay in cache until all kernel cells are done and are written
// once, so results do not depend on the number of threads.
#include "sparse_conv_cpu.h"

#include "common/parallel.h"

using namespace renderpretrain;

namespace {

constexpr int64_t kTile = 256;  // output rows; a panel of their sums fits the first cache

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

template <typename T>
struct Forward {
  ConvShape shape;
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
      if (pairs.count == 0) continue;
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
