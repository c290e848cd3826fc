// The cells of points, sixteen at a time, and who adds to which rows of a volume.
#pragma once

#include "common/rows.h"
#include "grid_sample.h"

namespace renderpretrain {

constexpr int kBlockShift = 3;  // rows of one owner lie in blocks of 8 x 8: most cells have a single owner
constexpr int kAllInside = (1 << kCorners) - 1;

// One of `mask` + 1 owners, a power of two, who share the rows of voxels at (y, z) among them.
struct Owner {
  int mask, index;

  template <typename Int>
  RP_HOST_DEVICE auto has(Int y, Int z) const {
    return (((y >> kBlockShift) + (z >> kBlockShift)) & mask) == index;
  }
};

// Up to kLanes points of one sample and their cells, a lane each.
template <typename T>
struct Block {
  int64_t begin, end, sample;
  int32_t corner[3][kLanes];  // the lower one, in the order x, y, z
  int32_t inside[kLanes];     // bit k: corner k is in the volume
  int32_t owned[kLanes];      // bit k: and in one of the owner's rows
  int32_t begins[kLanes];     // whether the lower corner's row is the owner's, wherever it is
  Cell<Vector<T>> cell;
  Vector<T> along[3];
  Vector<T> weight[kCorners];  // or its derivative along the direction

  RP_HOST_DEVICE void locate(const Grid<T>& grid, const T* points, const T* directions, const Owner& owner) {
    constexpr int32_t kUpper[3] = {0xaa, 0xcc, 0xf0};  // corners on the upper side of each axis
    const int count = static_cast<int>(end - begin);
    Vector<T> point[3];
    transpose(points + 3 * begin, count, point);
    if (directions) transpose(directions + 3 * begin, count, along);
    Vector<int32_t> all = Vector<int32_t>{} + kAllInside, at[3];
    for (int axis = 0; axis < 3; ++axis) {
      const T size = static_cast<T>(grid.size[axis]);
      Vector<T> index = point[axis] * grid.scale[axis] + grid.offset[axis];
      const auto near = (index >= -1) & (index < size);
      index = near ? index : Vector<T>{};
      const Vector<T> low = floor<T>(index);
      cell.share[axis][1] = index - low;
      cell.share[axis][0] = 1 - (index - low);
      at[axis] = __builtin_convertvector(low, Vector<int32_t>);
      store(corner[axis], at[axis]);
      const auto lower_in = __builtin_convertvector(near & (low >= 0), Vector<int32_t>);
      const auto upper_in = __builtin_convertvector(near & (low + 1 < size), Vector<int32_t>);
      all &= (lower_in & ~kUpper[axis]) | (upper_in & kUpper[axis]);
    }
    Vector<int32_t> mine{};
    for (int row = 0; row < kCorners / 2; ++row) {
      mine |= owner.has(at[1] + (row & 1), at[2] + (row >> 1)) & (3 << 2 * row);
    }
    store(inside, all);
    store(owned, all & mine);
    store(begins, mine & 1);
    for (int k = 0; k < kCorners; ++k) weight[k] = weight_of(grid, cell, directions ? along : nullptr, k);
  }

  // Lanes from rows of three numbers; lanes past the last row are zero.
  RP_HOST_DEVICE static void transpose(const T* rows, int count, Vector<T>* columns) {
    T column[3][kLanes] = {};
    for (int j = 0; j < count; ++j) {
      for (int axis = 0; axis < 3; ++axis) column[axis][j] = rows[3 * j + axis];
    }
    for (int axis = 0; axis < 3; ++axis) columns[axis] = load(column[axis]);
  }
};

}  // namespace renderpretrain
