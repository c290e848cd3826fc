#include "sparse_neighbors.h"

#include "common/parallel.h"

using namespace renderpretrain;

namespace {

constexpr int64_t kGrain = 64;  // rows; most hold a few voxels

int64_t num_rows(const rp_window& window) { return window.batch * window.out_z * window.out_y; }

}  // namespace

int rp_sparse_count_outputs_cpu(int64_t type, const int32_t* coords, const int64_t* rows,
                                const int32_t* first, const int32_t* last, const rp_window* window,
                                int64_t* counts, int64_t num_threads) {
  if (type != RP_INT32) return RP_BAD_TYPE;
  return with_kernel_rows(*window, [&](auto kernel_rows) {
    return parallel_for(num_rows(*window), kGrain, num_threads, [&](int64_t begin, int64_t end) {
      for (int64_t row = begin; row < end; ++row) {
        counts[row] = count_row(kernel_rows, *window, {coords, rows}, first, last, row);
      }
    });
  });
}

int rp_sparse_list_outputs_cpu(int64_t type, const int32_t* coords, const int64_t* rows, const int32_t* first,
                               const int32_t* last, const rp_window* window, const int64_t* out_rows,
                               int32_t* out_coords, int64_t num_threads) {
  if (type != RP_INT32) return RP_BAD_TYPE;
  return with_kernel_rows(*window, [&](auto kernel_rows) {
    return parallel_for(num_rows(*window), kGrain, num_threads, [&](int64_t begin, int64_t end) {
      for (int64_t row = begin; row < end; ++row) {
        list_row(kernel_rows, *window, {coords, rows}, first, last, row, out_coords + 4 * out_rows[row]);
      }
    });
  });
}

int rp_sparse_pairs_cpu(int64_t type, const int32_t* coords, const int64_t* rows, const int32_t* out_coords,
                        const int64_t* out_rows, const rp_window* window, int64_t num_in, int64_t num_out,
                        int32_t* inputs, int32_t* outputs, int64_t num_threads) {
  if (type != RP_INT32) return RP_BAD_TYPE;
  return parallel_for(num_rows(*window), kGrain, num_threads, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      pair_row(*window, {coords, rows}, {out_coords, out_rows}, row, num_in, num_out, inputs, outputs);
    }
  });
}
