// Which voxels a kernel connects, one row of voxels along x after another: the arithmetic both devices share.
//
// SparseVoxels (b, z, y, x) are sorted by position. Row (b, z, y) holds the voxels rows[r] to rows[r + 1],
// where r = (b * size_z + z) * size_y + y.
#pragma once

#include "common/host_device.h"

namespace renderpretrain {

struct SparseVoxels {
  const int32_t* coords;
  const int64_t* rows;

  RP_HOST_DEVICE int64_t x(int64_t voxel) const { return coords[4 * voxel + 3]; }
};

// A row of the output, and its volume.
struct OutputRow {
  int64_t b, z, y;

  RP_HOST_DEVICE OutputRow(const rp_window& w, int64_t row)
      : b(row / w.out_y / w.out_z), z(row / w.out_y % w.out_z), y(row % w.out_y) {}
};

struct Range {
  int64_t begin, end;
};

// The input voxels that a row of the output reads under the kernel cells (kz, ky, any).
RP_HOST_DEVICE Range read_row(const rp_window& w, const SparseVoxels& in, const OutputRow& out, int64_t kz,
                              int64_t ky) {
  const int64_t z = out.z * w.stride_z - w.padding_z + kz;
  const int64_t y = out.y * w.stride_y - w.padding_y + ky;
  if (z < 0 || z >= w.in_z || y < 0 || y >= w.in_y) return {0, 0};
  const int64_t row = (out.b * w.in_z + z) * w.in_y + y;
  return {in.rows[row], in.rows[row + 1]};
}

// A range in 32 bits, in which voxels are numbered: every CUDA thread has memory for those of a whole kernel.
struct OpenRange {
  int32_t begin, end;
};

template <int kRows>
struct KernelRows {};

// Calls run(KernelRows<n>) with a small n that the kernel's rows fit into.
template <typename Run>
int with_kernel_rows(const rp_window& w, Run run) {
  const int64_t num_rows = w.kernel_z * w.kernel_y;
  if (num_rows <= 9) return run(KernelRows<9>{});
  if (num_rows <= 25) return run(KernelRows<25>{});
  if (num_rows <= RP_MAX_KERNEL_ROWS) return run(KernelRows<RP_MAX_KERNEL_ROWS>{});
  return RP_TOO_LARGE;
}

// Calls visit(x) for each cell of a row of the output whose kernel reaches some input voxel, in order. Input
// voxel i is reached from the cells first[i] to last[i].
template <int kRows, typename Visit>
RP_HOST_DEVICE void visit_reached(const rp_window& w, const SparseVoxels& in, const int32_t* first,
                                  const int32_t* last, const OutputRow& row, Visit visit) {
  OpenRange open[kRows];
  int num_open = 0;
  for (int64_t kz = 0; kz < w.kernel_z; ++kz) {
    for (int64_t ky = 0; ky < w.kernel_y; ++ky) {
      const Range range = read_row(w, in, row, kz, ky);
      if (range.begin < range.end) {
        open[num_open++] = {static_cast<int32_t>(range.begin), static_cast<int32_t>(range.end)};
      }
    }
  }
  for (int64_t x = 0; x < w.out_x;) {
    int64_t next = w.out_x;
    for (int r = 0; r < num_open; ++r) {
      OpenRange& range = open[r];
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
template <int kRows>
RP_HOST_DEVICE int64_t count_row(KernelRows<kRows>, const rp_window& w, const SparseVoxels& in,
                                 const int32_t* first, const int32_t* last, int64_t output_row) {
  int64_t count = 0;
  visit_reached<kRows>(w, in, first, last, {w, output_row}, [&](int64_t) { ++count; });
  return count;
}

// Their (b, z, y, x).
template <int kRows>
RP_HOST_DEVICE void list_row(KernelRows<kRows>, const rp_window& w, const SparseVoxels& in,
                             const int32_t* first, const int32_t* last, int64_t output_row, int32_t* coords) {
  const OutputRow row(w, output_row);
  visit_reached<kRows>(w, in, first, last, row, [&](int64_t x) {
    const int64_t voxel[4] = {row.b, row.z, row.y, x};
    for (int i = 0; i < 4; ++i) *coords++ = static_cast<int32_t>(voxel[i]);
  });
}

// A table (cells, num): entry(kx, i) for the cells of one row of the kernel, which lie `step` apart.
struct TableRow {
  int32_t* first;
  int64_t step;

  RP_HOST_DEVICE int32_t& entry(int64_t kx, int64_t i) const { return first[kx * step + i]; }
};

// The inputs that the outputs of one row, `write`, read from one row of the input, `read`, and the converse.
RP_HOST_DEVICE void pair_rows(const rp_window& w, const SparseVoxels& in, const SparseVoxels& out, Range read,
                              Range write, TableRow inputs, TableRow outputs) {
  const int64_t stride = w.stride_x, padding = w.padding_x, width = w.kernel_x;
  int64_t i = read.begin;
  for (int64_t n = write.begin; n < write.end; ++n) {
    const int64_t x = out.x(n) * stride - padding;
    while (i < read.end && in.x(i) < x) ++i;
    for (int64_t j = i; j < read.end && in.x(j) < x + width; ++j) {
      inputs.entry(in.x(j) - x, n) = static_cast<int32_t>(j);
      outputs.entry(in.x(j) - x, j) = static_cast<int32_t>(n);
    }
  }
}

// Fills what one row of the output has in the table inputs (cells, num_out) and in its converse outputs
// (cells, num_in). If that is null, the table is its own converse with the cells mirrored, and half of it is
// searched. No entry is written for two rows, and only what exists is.
RP_HOST_DEVICE void pair_row(const rp_window& w, const SparseVoxels& in, const SparseVoxels& out,
                             int64_t output_row, int64_t num_in, int64_t num_out, int32_t* inputs,
                             int32_t* outputs) {
  const Range write{out.rows[output_row], out.rows[output_row + 1]};
  if (write.begin == write.end) return;
  const OutputRow row(w, output_row);
  const int64_t num_rows = w.kernel_z * w.kernel_y, last_cell = num_rows * w.kernel_x - 1;
  for (int64_t r = 0; r < (outputs ? num_rows : num_rows / 2 + 1); ++r) {
    const int64_t cell = r * w.kernel_x;
    const TableRow converse = outputs ? TableRow{outputs + cell * num_in, num_in}
                                      : TableRow{inputs + (last_cell - cell) * num_in, -num_in};
    pair_rows(w, in, out, read_row(w, in, row, r / w.kernel_y, r % w.kernel_y), write,
              TableRow{inputs + cell * num_out, num_out}, converse);
  }
}

}  // namespace renderpretrain
