// Points by cell: a radix sort from the lowest digit up, whose passes are stable. Blocks of points are
// counted and then written by whoever comes; where they are written depends on the counts alone.
#include <algorithm>

#include "common/parallel.h"

using namespace renderpretrain;

namespace {

constexpr int kMostBits = 11;  // of a digit: its bins and their places stay in the first-level cache
static_assert(1 << kMostBits == RP_SORT_BINS, "a digit has a bin for every value");

struct Digit {
  int shift, bits;

  int64_t of(int64_t cell) const { return cell >> shift & ((int64_t(1) << bits) - 1); }
};

int64_t num_blocks(int64_t count) { return (count + RP_SORT_BLOCK - 1) / RP_SORT_BLOCK; }

// Calls body(block, begin, end) for every block of points.
template <typename Body>
void for_blocks(int64_t count, int64_t num_threads, const Body& body) {
  parallel_for(num_blocks(count), 1, num_threads, [&](int64_t first, int64_t last) {
    for (int64_t block = first; block < last; ++block) {
      body(block, block * RP_SORT_BLOCK, std::min((block + 1) * RP_SORT_BLOCK, count));
    }
  });
}

// Turns counts (blocks, bins) into the place of each block's first point of each bin.
void accumulate(int64_t* histogram, int64_t blocks, int64_t bins) {
  int64_t total = 0;
  for (int64_t bin = 0; bin < bins; ++bin) {
    for (int64_t block = 0; block < blocks; ++block) {
      const int64_t count = histogram[block * bins + bin];
      histogram[block * bins + bin] = total;
      total += count;
    }
  }
}

// One pass: the points point_of(i) of cell cell_of(i), i in [0, count), by one digit of their cell.
template <typename CellOf, typename PointOf>
void sort_by(Digit digit, int64_t count, CellOf cell_of, PointOf point_of, int64_t* cells, int32_t* order,
             int64_t* histogram, int64_t num_threads) {
  const int64_t bins = int64_t(1) << digit.bits;
  for_blocks(count, num_threads, [&](int64_t block, int64_t begin, int64_t end) {
    int64_t* const counts = histogram + block * bins;
    std::fill(counts, counts + bins, 0);
    for (int64_t i = begin; i < end; ++i) ++counts[digit.of(cell_of(i))];
  });
  accumulate(histogram, num_blocks(count), bins);
  for_blocks(count, num_threads, [&](int64_t block, int64_t begin, int64_t end) {
    int64_t* const places = histogram + block * bins;
    for (int64_t i = begin; i < end; ++i) {
      const int64_t cell = cell_of(i);
      const int64_t place = places[digit.of(cell)]++;
      cells[place] = cell;
      order[place] = point_of(i);
    }
  });
}

int bits_of(uint64_t value) {
  int bits = 1;
  while (bits < 64 && value >> bits) ++bits;
  return bits;
}

}  // namespace

int rp_sort_cells_cpu(int64_t type, const int64_t* index, int64_t count, int64_t num_cells, int64_t* cells,
                      int32_t* order, int64_t* spare_cells, int32_t* spare_order, int64_t* histogram,
                      int64_t num_threads) {
  if (type != RP_INT64) return RP_BAD_TYPE;
  const int bits = bits_of(num_cells + 1);
  const int passes = (bits + kMostBits - 1) / kMostBits;
  const int width = (bits + passes - 1) / passes;
  const auto cell_of = [&](int64_t i) {
    return index[i] < 0 ? num_cells : index[i] < num_cells ? index[i] : num_cells + 1;
  };
  const auto itself = [](int64_t i) { return static_cast<int32_t>(i); };
  int64_t* const cell_buffers[] = {spare_cells, cells};
  int32_t* const order_buffers[] = {spare_order, order};
  for (int pass = 0; pass < passes; ++pass) {
    const int to = (passes - pass) % 2;  // the last pass writes the result
    const int64_t* const from_cells = cell_buffers[1 - to];
    const int32_t* const from_order = order_buffers[1 - to];
    const Digit digit{pass * width, width};
    if (pass == 0) {
      sort_by(digit, count, cell_of, itself, cell_buffers[to], order_buffers[to], histogram, num_threads);
    } else {
      sort_by(
          digit, count, [=](int64_t i) { return from_cells[i]; }, [=](int64_t i) { return from_order[i]; },
          cell_buffers[to], order_buffers[to], histogram, num_threads);
    }
  }
  return RP_OK;
}

int rp_cell_offsets_cpu(int64_t type, const int64_t* cells, int64_t count, int64_t num_cells,
                        int32_t* offsets, int64_t num_threads) {
  if (type != RP_INT64) return RP_BAD_TYPE;
  return parallel_for(num_cells + 1, RP_SORT_BLOCK, num_threads, [&](int64_t begin, int64_t end) {
    const int64_t* const first = std::lower_bound(cells, cells + count, begin);
    const int64_t* const last = std::lower_bound(first, cells + count, end);
    std::fill(offsets + begin, offsets + end, 0);
    for (const int64_t* cell = first; cell < last; ++cell) ++offsets[*cell];
    int32_t place = static_cast<int32_t>(first - cells);
    for (int64_t cell = begin; cell < end; ++cell) {
      const int32_t points = offsets[cell];
      offsets[cell] = place;
      place += points;
    }
  });
}

int rp_occupied_cells_cpu(int64_t type, const int64_t* cells, const int32_t* order, int64_t count,
                          int64_t num_cells, int64_t* occupied, int32_t* offsets, int64_t* rows,
                          int64_t* num_occupied, int64_t* scratch, int64_t num_threads) {
  if (type != RP_INT64) return RP_BAD_TYPE;
  const int64_t kept = std::lower_bound(cells, cells + count, num_cells) - cells;
  const auto begins_cell = [&](int64_t i) { return i == 0 || cells[i] != cells[i - 1]; };
  for_blocks(kept, num_threads, [&](int64_t block, int64_t begin, int64_t end) {
    scratch[block] = 0;
    for (int64_t i = begin; i < end; ++i) scratch[block] += begins_cell(i);
  });
  accumulate(scratch, num_blocks(kept), 1);
  *num_occupied = 0;
  offsets[0] = 0;
  for_blocks(kept, num_threads, [&](int64_t block, int64_t begin, int64_t end) {
    // A block has the cells that begin in it, with all their points.
    while (begin < end && !begins_cell(begin)) ++begin;
    if (begin == end) return;
    while (end < kept && !begins_cell(end)) ++end;
    int64_t row = scratch[block] - 1;
    for (int64_t i = begin; i < end; ++i) {
      row += begins_cell(i);
      occupied[row] = cells[i];
      offsets[row + 1] = static_cast<int32_t>(i + 1);
      rows[order[i]] = row;
    }
    if (end == kept) *num_occupied = row + 1;
  });
  for (int64_t i = kept; i < count; ++i) rows[order[i]] = -1;
  return RP_OK;
}
