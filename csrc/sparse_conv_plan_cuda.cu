// Rows of a table that read the same cells come to lie side by side, so that most tiles lack most cells.
#include "common/warp_cuda.h"
#include "sparse_conv_cuda.h"

namespace renderpretrain {

// Cells that lie next to each other share a bit where there are more cells than bits.
constexpr int64_t kMaskBits = 62;

// masks (num_out): which cells a row reads.
__global__ void masks_kernel(const int32_t* inputs, ConvShape shape, int64_t* masks) {
  const int64_t row = thread_index();
  if (row >= shape.num_out) return;
  const int64_t num_shared = shape.num_cells > kMaskBits ? shape.num_cells : kMaskBits;
  int64_t mask = 0;
  for (int64_t cell = 0; cell < shape.num_cells; ++cell) {
    if (input_of(inputs, shape, cell, row) >= 0) mask |= int64_t{1} << (cell * kMaskBits / num_shared);
  }
  masks[row] = mask;
}

// A warp per group of rows, a thread per row.
__global__ void arrange_kernel(const int32_t* inputs, const int64_t* order, ConvShape shape, int32_t* table,
                               uint32_t* covers) {
  const int64_t row = thread_index(), group = row / RP_ROW_GROUP;
  if (group * RP_ROW_GROUP >= shape.num_out) return;  // whole warps leave together
  const int64_t from = row < shape.num_out ? order[row] : -1;
  const int64_t num_words = (shape.num_cells + 31) / 32;
  for (int64_t word = 0; word < num_words; ++word) {
    uint32_t cover = 0;
    for (int64_t cell = word * 32; cell < shape.num_cells && cell < word * 32 + 32; ++cell) {
      const int32_t input = input_of(inputs, shape, cell, from);
      if (row < shape.num_out) table[cell * shape.num_out + row] = input;
      if (input >= 0) cover |= 1u << (cell % 32);
    }
    for (int step = kWarp / 2; step > 0; step /= 2) cover |= __shfl_xor_sync(kWholeWarp, cover, step);
    if (row % RP_ROW_GROUP == 0) covers[group * num_words + word] = cover;
  }
}

}  // namespace renderpretrain

using namespace renderpretrain;

static_assert(kWarp == RP_ROW_GROUP, "a lane per row of a group");

int rp_sparse_conv3d_masks_cuda(int64_t type, const int32_t* inputs, int64_t num_in, int64_t num_out,
                                int64_t num_cells, int64_t* masks, void* stream) {
  if (type != RP_INT32) return RP_BAD_TYPE;
  return launch(masks_kernel, num_out, stream, inputs, ConvShape{num_in, num_out, num_cells, 0, 0}, masks);
}

int rp_sparse_conv3d_arrange_cuda(int64_t type, const int32_t* inputs, const int64_t* order, int64_t num_in,
                                  int64_t num_out, int64_t num_cells, int32_t* table, uint32_t* covers,
                                  void* stream) {
  if (type != RP_INT32) return RP_BAD_TYPE;
  const int64_t num_groups = (num_out + RP_ROW_GROUP - 1) / RP_ROW_GROUP;
  return launch(arrange_kernel, num_groups * RP_ROW_GROUP, stream, inputs, order,
                ConvShape{num_in, num_out, num_cells, 0, 0}, table, covers);
}
