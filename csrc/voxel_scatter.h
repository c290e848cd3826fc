// Sum, mean or maximum over the points of a cell: the arithmetic both devices share. On the CPU a number may
// be a vector.
#pragma once

#include "host_device.h"

namespace renderpretrain {

// Whether a later value replaces the maximum so far: ties stay with the first, and so does NaN.
template <typename Number>
RP_HOST_DEVICE auto replaces(Number value, Number best) {
  return (value > best) | ((value != value) & (best == best));
}

}  // namespace renderpretrain
