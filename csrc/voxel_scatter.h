// Sum, mean or maximum over the points of a cell: the arithmetic both devices share. On the CPU a number may
// be a vector.
#pragma once

#include "common/host_device.h"

namespace renderpretrain {

// Whether a later value replaces the maximum so far: ties stay with the first, and so does NaN.
template <typename Number>
RP_HOST_DEVICE auto replaces(Number value, Number best) {
  return (value > best) | ((value != value) & (best == best));
}

// Where a cell's points begin or end among num_points; a wrong offset gives fewer of them, but no place
// outside.
RP_HOST_DEVICE int64_t place_of(int32_t offset, int64_t num_points) {
  return offset < 0 ? 0 : offset < num_points ? offset : num_points;
}

RP_HOST_DEVICE bool is_row(int32_t row, int64_t num_rows) { return row >= 0 && row < num_rows; }

}  // namespace renderpretrain
