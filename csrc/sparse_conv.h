// Sizes of a sparse convolution, for both devices.
#pragma once

#include "common/host_device.h"

namespace renderpretrain {

struct ConvShape {
  int64_t num_in, num_out, num_cells, in_channels, out_channels;
};

}  // namespace renderpretrain
