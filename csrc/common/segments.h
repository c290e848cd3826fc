// Where the samples of each ray lie in one array: rows of one length, or packed back to back.
#pragma once

#include "common/host_device.h"

namespace renderpretrain {

struct Segments {
  const int64_t* offsets;  // (rays + 1), sorted, from 0 to num_samples; null for rows
  int64_t num_samples;     // of a row, or of all rays where they are packed

  // Wrong offsets give wrong numbers, but no access outside the array: on CUDA nobody has looked at them.
  RP_HOST_DEVICE int64_t begin(int64_t ray) const {
    if (offsets == nullptr) return ray * num_samples;
    const int64_t offset = offsets[ray] < num_samples ? offsets[ray] : num_samples;
    return offset > 0 ? offset : 0;
  }

  RP_HOST_DEVICE int64_t count(int64_t ray) const { return begin(ray + 1) - begin(ray); }
};

}  // namespace renderpretrain
