// A thread per row of the output.
#include "common/launch_cuda.h"
#include "sparse_neighbors.h"

namespace renderpretrain {

template <int kRows>
__global__ void count_kernel(SparseVoxels in, const int32_t* first, const int32_t* last, rp_window window,
                             int64_t num_rows, int64_t* counts) {
  const int64_t row = thread_index();
  if (row < num_rows) counts[row] = count_row(KernelRows<kRows>{}, window, in, first, last, row);
}

template <int kRows>
__global__ void list_kernel(SparseVoxels in, const int32_t* first, const int32_t* last, rp_window window,
                            int64_t num_rows, const int64_t* out_rows, int32_t* out_coords) {
  const int64_t row = thread_index();
  if (row < num_rows) {
    list_row(KernelRows<kRows>{}, window, in, first, last, row, out_coords + 4 * out_rows[row]);
  }
}

template <int kRows>
int count_outputs(KernelRows<kRows>, SparseVoxels in, const int32_t* first, const int32_t* last,
                  const rp_window& window, int64_t num_rows, int64_t* counts, void* stream) {
  return launch(count_kernel<kRows>, num_rows, stream, in, first, last, window, num_rows, counts);
}

template <int kRows>
int list_outputs(KernelRows<kRows>, SparseVoxels in, const int32_t* first, const int32_t* last,
                 const rp_window& window, int64_t num_rows, const int64_t* out_rows, int32_t* out_coords,
                 void* stream) {
  return launch(list_kernel<kRows>, num_rows, stream, in, first, last, window, num_rows, out_rows,
                out_coords);
}

__global__ void pairs_kernel(SparseVoxels in, SparseVoxels out, rp_window window, int64_t num_rows,
                             int64_t num_in, int64_t num_out, int32_t* inputs, int32_t* outputs) {
  const int64_t row = thread_index();
  if (row < num_rows) pair_row(window, in, out, row, num_in, num_out, inputs, outputs);
}

}  // namespace renderpretrain

using namespace renderpretrain;

int rp_sparse_count_outputs_cuda(int64_t type, const int32_t* coords, const int64_t* rows,
                                 const int32_t* first, const int32_t* last, const rp_window* window,
                                 int64_t* counts, void* stream) {
  if (type != RP_INT32) return RP_BAD_TYPE;
  const int64_t num_rows = window->batch * window->out_z * window->out_y;
  return with_kernel_rows(*window, [&](auto kernel_rows) {
    return count_outputs(kernel_rows, {coords, rows}, first, last, *window, num_rows, counts, stream);
  });
}

int rp_sparse_list_outputs_cuda(int64_t type, const int32_t* coords, const int64_t* rows,
                                const int32_t* first, const int32_t* last, const rp_window* window,
                                const int64_t* out_rows, int32_t* out_coords, void* stream) {
  if (type != RP_INT32) return RP_BAD_TYPE;
  const int64_t num_rows = window->batch * window->out_z * window->out_y;
  return with_kernel_rows(*window, [&](auto kernel_rows) {
    return list_outputs(kernel_rows, {coords, rows}, first, last, *window, num_rows, out_rows, out_coords,
                        stream);
  });
}

int rp_sparse_pairs_cuda(int64_t type, const int32_t* coords, const int64_t* rows, const int32_t* out_coords,
                         const int64_t* out_rows, const rp_window* window, int64_t num_in, int64_t num_out,
                         int32_t* inputs, int32_t* outputs, void* stream) {
  if (type != RP_INT32) return RP_BAD_TYPE;
  const int64_t num_rows = window->batch * window->out_z * window->out_y;
  return launch(pairs_kernel, num_rows, stream, SparseVoxels{coords, rows},
                SparseVoxels{out_coords, out_rows}, *window, num_rows, num_in, num_out, inputs, outputs);
}
