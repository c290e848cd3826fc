// A ray against a box: the arithmetic both devices share.
#pragma once

#include "common/host_device.h"

namespace renderpretrain {

// Corners in the floating type of the data.
template <typename T>
struct Box {
  T lower[3], upper[3], near, far;

  explicit Box(const rp_box& box)
      : lower{T(box.lower_x), T(box.lower_y), T(box.lower_z)},
        upper{T(box.upper_x), T(box.upper_y), T(box.upper_z)},
        near(T(box.near)),
        far(T(box.far)) {}
};

// Whether the ray has more than a point in common with the box between near and far, and from where to where.
// Every comparison is written so that NaN misses.
template <typename T>
RP_HOST_DEVICE bool box_intersect_ray(const Box<T>& box, const T* origin, const T* direction, T* t_near,
                                      T* t_far) {
  T enter = box.near, leave = box.far;
  bool meets = true;
  for (int axis = 0; axis < 3; ++axis) {
    if (direction[axis] == 0) {  // of either sign: parallel to the two faces, in their planes or between them
      meets = meets && origin[axis] >= box.lower[axis] && origin[axis] <= box.upper[axis];
      continue;
    }
    const T first = (box.lower[axis] - origin[axis]) / direction[axis];
    const T second = (box.upper[axis] - origin[axis]) / direction[axis];
    const T low = first < second ? first : second;
    const T high = first < second ? second : first;
    meets = meets && low <= high;
    enter = low > enter ? low : enter;
    leave = high < leave ? high : leave;
  }
  meets = meets && enter < leave;
  *t_near = meets ? enter : box.near;
  *t_far = meets ? leave : box.near;
  return meets;
}

}  // namespace renderpretrain
