// Which voxels a kernel connects, one row of voxels along x after another: the arithmetic both devices share.
//
// Voxels (b, z, y, x) are sorted by position. Row (b, z, y) holds the voxels rows[r] to rows[r + 1], where r =
// (b * size_z + z) * size_y + y.
#pragma once

#include "host_device.h"

namespace renderpretrain {

struct Voxels {
  const int32_t* coords;
  const int64_t* rows;

  RP_HOST_DEVICE int64_t x(int64_t voxel) const { return coords[4 * voxel + 3]; }
};

struct Range {
  int64_t begin, end;
};

// The input voxels that row `output_row` of the output reads under the kernel cells (kz, ky, any).
RP_HOST_DEVICE Range read_row(const rp_window& w, const Voxels& in, int64_t output_row, int64_t kz,
                              int64_t ky) {
  const int64_t slice = output_row / w.out_y;
  const int64_t z = slice % w.out_z * w.stride_z - w.padding_z + kz;
  const int64_t y = output_row % w.out_y * w.stride_y - w.padding_y + ky;
  if (z < 0 || z >= w.in_z || y < 0 || y >= w.in_y) return {0, 0};
  const int64_t row = (slice / w.out_z * w.in_z + z) * w.in_y + y;
  return {in.rows[row], in.rows[row + 1]};
}

// Calls visit(x) for each cell of a row of the output that the kernel reaches from some input voxel, in order.
// Input voxel i reaches the cells first[i] to last[i]. Kernels have at most RP_MAX_KERNEL_ROWS rows.
template <typename Visit>
RP_HOST_DEVICE void visit_reached(const rp_window& w, const Voxels& in, const int32_t* first,
                                  const int32_t* last, int64_t output_row, Visit visit) {
  Range open[RP_MAX_KERNEL_ROWS];
  int num_open = 0;
  for (int64_t kz = 0; kz < w.kernel_z; ++kz) {
    for (int64_t ky = 0; ky < w.kernel_y; ++ky) {
      const Range range = read_row(w, in, output_row, kz, ky);
      if (range.begin < range.end) open[num_open++] = range;
    }
  }
  for (int64_t x = 0; x < w.out_x;) {
    int64_t next = w.out_x;
    for (int r = 0; r < num_open; ++r) {
      Range& range = open[r];
      // Behind us, or in the gap between two kernels further apart than they are wide.
      while (range.begin < range.end && (last[range.begin] < x || last[range.begin] < first[range.begin])) {
        ++range.begin;
      }
      if (range.begin == range.end) continue;
      const int64_t reached = first[range.begin] > x ? first[range.begin] : x;
      next = reached < next ? reached : next;
    }
    if (next < w.out_x) visit(next);
    x = next + 1;
  }
}

// How many there are.
RP_HOST_DEVICE int64_t count_row(const rp_window& w, const Voxels& in, const int32_t* first,
                                 const int32_t* last, int64_t output_row) {
  int64_t count = 0;
  visit_reached(w, in, first, last, output_row, [&](int64_t) { ++count; });
  return count;
}

// Their (b, z, y, x).
RP_HOST_DEVICE void list_row(const rp_window& w, const Voxels& in, const int32_t* first, const int32_t* last,
                             int64_t output_row, int32_t* coords) {
  const int64_t y = output_row % w.out_y, slice = output_row / w.out_y;
  visit_reached(w, in, first, last, output_row, [&](int64_t x) {
    const int64_t voxel[4] = {slice / w.out_z, slice % w.out_z, y, x};
    for (int i = 0; i < 4; ++i) *coords++ = static_cast<int32_t>(voxel[i]);
  });
}

// Fills one row of the output's part of the table inputs (cells, num_out), -1 for none, and, unless that is
// null, of its converse outputs (cells, num_in), where only what exists is written.
RP_HOST_DEVICE void pair_row(const rp_window& w, const Voxels& in, const Voxels& out, int64_t output_row,
                             int64_t num_in, int64_t num_out, int32_t* inputs, int32_t* outputs) {
  const int64_t begin = out.rows[output_row], end = out.rows[output_row + 1];
  if (begin == end) return;
  for (int64_t kz = 0; kz < w.kernel_z; ++kz) {
    for (int64_t ky = 0; ky < w.kernel_y; ++ky) {
      const int64_t cell = (kz * w.kernel_y + ky) * w.kernel_x;
      Range read = read_row(w, in, output_row, kz, ky);
      for (int64_t n = begin; n < end; ++n) {
        const int64_t x = out.x(n) * w.stride_x - w.padding_x;
        while (read.begin < read.end && in.x(read.begin) < x) ++read.begin;
        int64_t i = read.begin;
        for (int64_t kx = 0; kx < w.kernel_x; ++kx) {
          const bool exists = i < read.end && in.x(i) == x + kx;
          inputs[(cell + kx) * num_out + n] = exists ? static_cast<int32_t>(i) : -1;
          if (exists && outputs != nullptr) outputs[(cell + kx) * num_in + i] = static_cast<int32_t>(n);
          i += exists;
        }
      }
    }
  }
}

}  // namespace renderpretrain
