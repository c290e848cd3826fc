// Lift-splat pooling: where the depth probabilities of a pixel lie, on both devices.
#pragma once

#include "common/host_device.h"

namespace renderpretrain {

// Pixels are counted over all images.
struct Frustum {
  int64_t num_bins, image_pixels, channels, bin_stride, pixel_stride;

  explicit Frustum(const rp_frustum& frustum)
      : num_bins(frustum.num_bins),
        image_pixels(frustum.height * frustum.width),
        channels(frustum.channels),
        bin_stride(frustum.bins_last ? 1 : image_pixels),
        pixel_stride(frustum.bins_last ? num_bins : 1) {}

  // The place of a point in the depth probabilities is base(its image) + step(its pixel, its bin).
  RP_HOST_DEVICE int64_t base(int64_t image) const {
    return image * image_pixels * (num_bins - pixel_stride);
  }
  RP_HOST_DEVICE int64_t step(int64_t pixel, int64_t bin) const {
    return pixel * pixel_stride + bin * bin_stride;
  }
  RP_HOST_DEVICE int64_t place(int64_t pixel, int64_t bin) const {
    return base(pixel / image_pixels) + step(pixel, bin);
  }
};

}  // namespace renderpretrain
