// Which voxels a beam passes, after Amanatides and Woo (1987), in float64: the arithmetic both devices share.
//
// In voxels from the grid's lower corner the beam runs from p to p + d, and meets the face at a whole number
// k of an axis at the time (k - p) / d. Every such time is that one division, never a sum of steps, so the
// voxels found are those of the slab test "enters before it leaves" in float64, wherever one begins to walk:
// a range of rows sees exactly its part of the whole.
#pragma once

#include <cmath>

#include "common/host_device.h"

namespace renderpretrain {

constexpr int64_t kNoVoxel = -1;

struct Beam {
  double p[3], d[3];
  int64_t end[3];  // the voxel that holds the end, wherever that is
  bool counts;     // not so with a coordinate that is not finite

  template <typename T>
  RP_HOST_DEVICE Beam(const rp_grid& grid, const T* origin, const T* last) : counts(true) {
    const double scale[3] = {grid.scale_x, grid.scale_y, grid.scale_z};
    const double offset[3] = {grid.offset_x, grid.offset_y, grid.offset_z};
    for (int axis = 0; axis < 3; ++axis) {
      p[axis] = double(origin[axis]) * scale[axis] + offset[axis] + 0.5;
      const double q = double(last[axis]) * scale[axis] + offset[axis] + 0.5;
      d[axis] = q - p[axis];
      counts = counts && std::abs(p[axis]) < 1e15 && std::abs(q) < 1e15;
      end[axis] = counts ? static_cast<int64_t>(std::floor(q)) : 0;
    }
  }

  RP_HOST_DEVICE double time(int64_t face, int axis) const { return (double(face) - p[axis]) / d[axis]; }
};

// A box of voxels, [lower, upper), in a grid of which it is all or some rows.
struct Voxels {
  int64_t lower[3], upper[3], size_x, size_y;

  RP_HOST_DEVICE int64_t flat(const int64_t* index) const {
    for (int axis = 0; axis < 3; ++axis) {
      if (index[axis] < lower[axis] || index[axis] >= upper[axis]) return kNoVoxel;
    }
    return (index[2] * size_y + index[1]) * size_x + index[0];
  }
};

// The part of the beam within the box, as times in (0, 1); false if it does not meet the inside of any voxel
// there.
RP_HOST_DEVICE bool clip(const Beam& beam, const Voxels& box, double* enter, double* leave) {
  *enter = 0;
  *leave = 1;
  for (int axis = 0; axis < 3; ++axis) {
    const double p = beam.p[axis];
    if (beam.d[axis] == 0) {  // between two faces or, in the plane of one, inside nothing
      const bool inside = p > double(box.lower[axis]) && p < double(box.upper[axis]) && p != std::floor(p);
      if (!inside) return false;
      continue;
    }
    const bool up = beam.d[axis] > 0;
    const double in = beam.time(up ? box.lower[axis] : box.upper[axis], axis);
    const double out = beam.time(up ? box.upper[axis] : box.lower[axis], axis);
    *enter = in > *enter ? in : *enter;
    *leave = out < *leave ? out : *leave;
  }
  return *enter < *leave;
}

// Where the beam stands on one axis: in which voxel, and when it meets the face ahead.
struct AxisWalk {
  int64_t index;
  int64_t step;
  double next;
};

// The voxel on an axis right behind the time `enter`: the last whose near face is met by then.
RP_HOST_DEVICE AxisWalk begin_walk(const Beam& beam, const Voxels& box, int axis, double enter) {
  const double d = beam.d[axis];
  int64_t index = static_cast<int64_t>(std::floor(beam.p[axis] + enter * d));
  index = index < box.lower[axis] ? box.lower[axis] : index;
  index = index >= box.upper[axis] ? box.upper[axis] - 1 : index;
  if (d == 0) return {index, 0, 2.0};  // no face is met before the end
  const int64_t step = d > 0 ? 1 : -1, ahead = d > 0;
  // The guess is off by rounding, a voxel or two.
  while (beam.time(index + ahead, axis) <= enter) index += step;
  while (beam.time(index + 1 - ahead, axis) > enter) index -= step;
  return {index, step, beam.time(index + ahead, axis)};
}

// Calls visit(voxel) for every voxel of the box whose inside the open segment meets, but the one that holds
// the beam's end. A beam through an edge or a corner steps over both faces at once.
template <typename Visit>
RP_HOST_DEVICE void walk(const Beam& beam, const Voxels& box, Visit visit) {
  double enter, leave;
  if (!beam.counts || !clip(beam, box, &enter, &leave)) return;
  const int64_t last = box.flat(beam.end);
  AxisWalk x = begin_walk(beam, box, 0, enter);
  AxisWalk y = begin_walk(beam, box, 1, enter);
  AxisWalk z = begin_walk(beam, box, 2, enter);
  const int64_t row = box.size_x, slice = box.size_x * box.size_y;
  int64_t voxel = z.index * slice + y.index * row + x.index;
  for (;;) {
    if (voxel != last) visit(voxel);
    double now = x.next < y.next ? x.next : y.next;
    now = z.next < now ? z.next : now;
    if (!(now < leave)) return;
    if (x.next == now) {
      voxel += x.step;
      x.index += x.step;
      x.next = beam.time(x.index + (x.step > 0), 0);
    }
    if (y.next == now) {
      voxel += y.step * row;
      y.index += y.step;
      y.next = beam.time(y.index + (y.step > 0), 1);
    }
    if (z.next == now) {
      voxel += z.step * slice;
      z.index += z.step;
      z.next = beam.time(z.index + (z.step > 0), 2);
    }
  }
}

}  // namespace renderpretrain
