// What the kernels on tensor cores share: the table they read, and how numbers get to shared memory.
#pragma once

#include <cuda_pipeline.h>

#include "common/products_cuda.h"
#include "common/warp_cuda.h"
#include "sparse_conv_cuda.h"

namespace renderpretrain {

// Rows of outputs in the order in which they are multiplied.
struct ArrangedRows {
  const int32_t* table;    // (num_cells, num_out): the input of a row under each cell, or -1
  const int64_t* order;    // the output that a row is
  const uint32_t* covers;  // (groups, words): a bit per cell that any row of a group has
  int64_t num_groups, num_words;

  ArrangedRows(const int32_t* inputs, const int64_t* rows, const uint32_t* bits, const ConvShape& shape)
      : table(inputs),
        order(rows),
        covers(bits),
        num_groups((shape.num_out + RP_ROW_GROUP - 1) / RP_ROW_GROUP),
        num_words((shape.num_cells + 31) / 32) {}

  __device__ uint32_t cover(int64_t group, int64_t word) const {
    return group < num_groups ? covers[group * num_words + word] : 0;
  }
};

// Whether rows of a matrix can be read 16 bytes at a time.
template <typename T>
bool reads_sixteens(const T* matrix, int64_t step) {
  return reinterpret_cast<uintptr_t>(matrix) % 16 == 0 && step * sizeof(T) % 16 == 0;
}

// 16 bytes of a matrix's row from one channel on; what is beyond its channels, or of no row (null), is zero.
template <typename T>
struct Sixteen {
  const T* row;
  int64_t first, channels;

  static constexpr int kCount = 16 / sizeof(T);

  __device__ bool empty() const { return row == nullptr || first >= channels; }

  __device__ uint4 one_by_one() const {
    T numbers[kCount];
    for (int i = 0; i < kCount; ++i) {
      numbers[i] = row != nullptr && first + i < channels ? row[first + i] : T{};
    }
    uint4 out;
    std::memcpy(&out, numbers, sizeof(out));
    return out;
  }

  // With `sixteens` there are whole ones alone.
  __device__ uint4 read(bool sixteens) const {
    if (!sixteens) return one_by_one();
    return empty() ? make_uint4(0, 0, 0, 0) : *reinterpret_cast<const uint4*>(row + first);
  }

  // To shared memory, where it is after the copies were waited for and a barrier.
  __device__ void copy(uint4* to, bool sixteens) const {
    if (sixteens && !empty()) {
      __pipeline_memcpy_async(to, row + first, sizeof(uint4));
    } else {
      *to = sixteens ? make_uint4(0, 0, 0, 0) : one_by_one();
    }
  }
};

}  // namespace renderpretrain
