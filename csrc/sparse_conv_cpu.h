// What sparse convolution and its gradient share on a CPU. Output rows are cut into tiles, output columns
// into panels as wide as the sums that registers hold. Within a tile the pairs of each kernel cell are listed
// first, so missing neighbours cost nothing.
#pragma once

#include <algorithm>

#include "common/register.h"
#include "sparse_conv.h"

namespace renderpretrain {

// Sums that registers hold: kRows by kVectors, beside kVectors weights and a factor.
#if defined(__AVX512F__)
constexpr int kRows = 8;
#else
constexpr int kRows = 6;
#endif
constexpr int kVectors = 2;
constexpr int64_t kMostRows = 512;  // output rows of a tile

struct Range {
  int64_t begin, end;
};

// Pairs of one kernel cell in one tile: input row, and output row within the tile.
struct Pairs {
  int64_t count;
  int32_t input[kMostRows + kRows], output[kMostRows + kRows];
};

// -1, and whatever else is no row of the input, is none.
inline void list_pairs(const int32_t* inputs, int64_t num_rows, int64_t num_in, Pairs* pairs) {
  int64_t count = 0, row = 0;
  const uint32_t limit = static_cast<uint32_t>(num_in);
#if defined(__AVX512F__)
  const __m512i steps = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
  for (; row + 16 <= num_rows; row += 16) {
    const __m512i input = _mm512_loadu_si512(inputs + row);
    const __m512i output = _mm512_add_epi32(steps, _mm512_set1_epi32(static_cast<int>(row)));
    const __mmask16 exists = _mm512_cmplt_epu32_mask(input, _mm512_set1_epi32(static_cast<int>(limit)));
    // A whole store, whose rest the next one overwrites: storing compressed is slow on some processors.
    _mm512_storeu_si512(pairs->input + count, _mm512_maskz_compress_epi32(exists, input));
    _mm512_storeu_si512(pairs->output + count, _mm512_maskz_compress_epi32(exists, output));
    // The conversion is not for show: where the mask is spilled, g++ 12 counts 32 bits of its 16 without it.
    count += __builtin_popcount(_cvtmask16_u32(exists));
  }
#endif
  for (; row < num_rows; ++row) {
    pairs->input[count] = inputs[row];
    pairs->output[count] = static_cast<int32_t>(row);
    count += static_cast<uint32_t>(inputs[row]) < limit;
  }
  pairs->count = count;
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

}  // namespace renderpretrain
