// Marching a ray through an occupancy grid: the arithmetic both devices share.
//
// Along a ray every coordinate is a monotone function of the number of the step, rounding included. So a
// predicate like "has left this voxel" changes once, and first_step finds where: exactly, and from a good
// guess in a few evaluations. Nothing that is skipped could have been a sample.
#pragma once

#include "common/host_device.h"

namespace renderpretrain {

constexpr int64_t kMostSteps = 1 << 23;  // float32 counts no further in halves

// First i in [begin, end) where passed(i), end if there is none; passed is false up to somewhere and true
// from there on. Strides double from the guess until they have it between them.
template <typename Passed>
RP_HOST_DEVICE int64_t first_step(int64_t begin, int64_t end, double guess, Passed passed) {
  int64_t low = begin, high = end;  // not passed before low, passed from high on
  int64_t probe = guess > double(begin) ? (guess < double(end) ? int64_t(guess) : end - 1) : begin;
  for (int64_t stride = 1; low < high; stride *= 2) {
    const bool is_passed = passed(probe);
    (is_passed ? high : low) = is_passed ? probe : probe + 1;
    const int64_t next = is_passed ? high - stride : low + stride - 1;
    probe = next < low || next >= high ? low + (high - low) / 2 : next;
  }
  return low;
}

// rp_grid and the step in the floating type of the data. Order x, y, z.
template <typename T>
struct Steps {
  int64_t size[3];
  T scale[3], offset[3], step;

  explicit Steps(const rp_grid& grid, double step)
      : size{grid.size_x, grid.size_y, grid.size_z},
        scale{T(grid.scale_x), T(grid.scale_y), T(grid.scale_z)},
        offset{T(grid.offset_x), T(grid.offset_y), T(grid.offset_z)},
        step(T(step)) {}

  RP_HOST_DEVICE int64_t num_voxels() const { return size[0] * size[1] * size[2]; }
};

// One ray: a vector V of numbers of steps or a single one gives times, coordinates and voxels.
template <typename T>
struct Marcher {
  Steps<T> steps;
  T origin[3], direction[3], t_near, t_far;
  double first[3], steps_per_voxel[3];  // coordinates at t_near, and how many steps change them by one

  RP_HOST_DEVICE Marcher(const Steps<T>& steps, const T* o, const T* d, T near, T far)
      : steps(steps), origin{o[0], o[1], o[2]}, direction{d[0], d[1], d[2]}, t_near(near), t_far(far) {
    for (int axis = 0; axis < 3; ++axis) {
      first[axis] = coordinate(near, axis);
      steps_per_voxel[axis] = 1.0 / (double(d[axis]) * steps.scale[axis] * steps.step);
    }
  }

  // Where step i begins.
  RP_HOST_DEVICE T start(int64_t i) const { return t_near + T(i) * steps.step; }

  template <typename V>
  RP_HOST_DEVICE V middle(V i) const {
    return t_near + (i + T(0.5)) * steps.step;
  }

  // In voxels from the grid's lower face.
  template <typename V>
  RP_HOST_DEVICE V coordinate(V t, int axis) const {
    return ((origin[axis] + t * direction[axis]) * steps.scale[axis] + steps.offset[axis]) + T(0.5);
  }

  // The first step whose middle lies behind this coordinate, about.
  RP_HOST_DEVICE double guess(double face, int axis) const {
    return (face - first[axis]) * steps_per_voxel[axis] + 0.5;
  }

  // The steps whose middles lie in front of t_far and within the grid: [*begin, *end). None for a ray that
  // stands still or has a NaN.
  RP_HOST_DEVICE void bounds(int64_t* begin, int64_t* end) const {
    *begin = *end = 0;
    if (!(direction[0] != 0 || direction[1] != 0 || direction[2] != 0)) return;
    int64_t enter = 0;
    int64_t last = first_step(0, kMostSteps, (double(t_far) - t_near) / steps.step + 0.5,
                              [&](int64_t i) { return !(middle(T(i)) < t_far); });
    for (int axis = 0; axis < 3; ++axis) {
      const bool up = direction[axis] > 0;
      const T size = T(steps.size[axis]);
      if (direction[axis] == 0) {
        const T at = coordinate(T(0), axis);
        if (!(at >= 0 && at < size)) return;
        continue;
      }
      enter = first_step(enter, last, guess(up ? 0 : size, axis), [&](int64_t i) {
        const T at = coordinate(middle(T(i)), axis);
        return up ? at >= 0 : at < size;
      });
      last = first_step(enter, last, guess(up ? size : 0, axis), [&](int64_t i) {
        const T at = coordinate(middle(T(i)), axis);
        return !(up ? at < size : at >= 0);
      });
    }
    *begin = enter;
    *end = last;
  }

  // The voxel of a step within the bounds; truncation rounds down, for no coordinate is negative.
  RP_HOST_DEVICE void voxel(int64_t i, int64_t* index) const {
    const T t = middle(T(i));
    for (int axis = 0; axis < 3; ++axis) index[axis] = static_cast<int64_t>(coordinate(t, axis));
  }

  RP_HOST_DEVICE int64_t flat(const int64_t* index) const {
    return (index[2] * steps.size[1] + index[1]) * steps.size[0] + index[0];
  }

  // The first step that has left this voxel, about.
  RP_HOST_DEVICE double guess_exit(const int64_t* index, int64_t end) const {
    double nearest = double(end);
    for (int axis = 0; axis < 3; ++axis) {
      if (direction[axis] == 0) continue;
      const double exit = guess(double(index[axis] + (direction[axis] > 0)), axis);
      nearest = exit < nearest ? exit : nearest;
    }
    return nearest;
  }

  // The first step in (i, end] that has left the voxel of i, which is `here`.
  RP_HOST_DEVICE int64_t leave(int64_t i, int64_t end, const int64_t* here, double guess) const {
    return first_step(i + 1, end, guess, [&](int64_t k) {
      int64_t there[3];
      voxel(k, there);
      return there[0] != here[0] || there[1] != here[1] || there[2] != here[2];
    });
  }
};

// The rays of a batch and the grids they go through; neighbouring rays share one.
template <typename T>
struct MarchedRays {
  Steps<T> steps;
  const T *origins, *directions, *t_near, *t_far;
  const bool* occupied;
  int64_t num_rays, rays_per_grid;

  MarchedRays(const void* origins, const void* directions, const void* t_near, const void* t_far,
              const bool* occupied, const rp_grid& grid, double step)
      : steps(grid, step),
        origins(static_cast<const T*>(origins)),
        directions(static_cast<const T*>(directions)),
        t_near(static_cast<const T*>(t_near)),
        t_far(static_cast<const T*>(t_far)),
        occupied(occupied),
        num_rays(grid.batch * grid.num_points),
        rays_per_grid(grid.num_points) {}

  RP_HOST_DEVICE Marcher<T> marcher(int64_t ray) const {
    return {steps, origins + 3 * ray, directions + 3 * ray, t_near[ray], t_far[ray]};
  }

  RP_HOST_DEVICE const bool* grid(int64_t ray) const {
    return occupied + ray / rays_per_grid * steps.num_voxels();
  }
};

}  // namespace renderpretrain
