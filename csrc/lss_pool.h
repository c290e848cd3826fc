// Lift-splat pooling: how the points of camera frustums are counted, on both devices.
#pragma once

#include "host_device.h"

namespace renderpretrain {

// Where a point takes its feature and its depth probability from.
struct Lifted {
  int64_t pixel;  // of all images
  int64_t place;  // in the depth probabilities
};

// Points are numbered pixel by pixel: point = pixel * num_bins + bin.
struct Frustum {
  int64_t num_bins, image_pixels, channels, bin_stride, pixel_stride;
  double per_bins, per_pixels;

  explicit Frustum(const rp_frustum& frustum)
      : num_bins(frustum.num_bins),
        image_pixels(frustum.height * frustum.width),
        channels(frustum.channels),
        bin_stride(frustum.bins_last ? 1 : image_pixels),
        pixel_stride(frustum.bins_last ? num_bins : 1),
        per_bins(1.0 / static_cast<double>(num_bins)),
        per_pixels(1.0 / static_cast<double>(image_pixels)) {}

  // First place of a pixel in the depth probabilities; its bins follow bin_stride apart.
  RP_HOST_DEVICE int64_t first_place(int64_t pixel) const {
    const int64_t image = quotient(pixel, per_pixels);
    return image * image_pixels * num_bins + (pixel - image * image_pixels) * pixel_stride;
  }

  RP_HOST_DEVICE Lifted lift(int32_t point) const {
    const int64_t pixel = quotient(point, per_bins);
    return {pixel, first_place(pixel) + (point - pixel * num_bins) * bin_stride};
  }

 private:
  // Exact below 2^31, where the half keeps every quotient farther from an integer than rounding can move it;
  // an integer division would cost as much as the rest of a point.
  static RP_HOST_DEVICE int64_t quotient(int64_t number, double per_divisor) {
    return static_cast<int64_t>((static_cast<double>(number) + 0.5) * per_divisor);
  }
};

}  // namespace renderpretrain
