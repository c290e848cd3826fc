// Reading feature maps and their depth distributions in the frusta of cameras: the arithmetic both devices
// share.
#pragma once

#include <cmath>

#include "common/host_device.h"

namespace renderpretrain {

// What one camera shows at a point: up to four cells of its maps, and two bins of depth, with linear weights.
// Cells and bins that do not exist are left out, or have weight zero.
template <typename T>
struct Sight {
  int num_cells = 0;  // 0, 1, 2 or 4
  int64_t cell[4];
  T weight[4];
  int64_t bin[2];
  T share[2];
};

// Continuous index of an edge-to-edge coordinate, an integer at a cell's centre; rounded as PyTorch does.
template <typename T>
RP_HOST_DEVICE T index_of(T coordinate, int64_t size) {
  return ((coordinate + 1) * static_cast<T>(size) - 1) / 2;
}

// The two neighbours of a continuous index that lie in [0, size), and their shares; returns how many.
template <typename T>
RP_HOST_DEVICE int neighbours(T index, int64_t size, int64_t* position, T* share) {
  if (!(index >= -1 && index < static_cast<T>(size))) return 0;
  const T low = std::floor(index);
  const int64_t first = static_cast<int64_t>(low);
  int count = 0;
  for (int step = 0; step < 2; ++step) {
    if (first + step < 0 || first + step >= size) continue;
    position[count] = first + step;
    share[count++] = step ? index - low : 1 - (index - low);
  }
  return count;
}

// rp_lift and the arrays that say who sees what; T is the type of the coordinates. An image is batch * views
// + view.
template <typename T>
struct Lift {
  rp_lift sizes;
  const T* coordinates;
  const bool* valid;
  const void* probabilities;  // null: every depth is certain

  RP_HOST_DEVICE bool sees(int64_t image, int64_t point) const {
    const int64_t i = image * sizes.num_points + point;
    if (!valid[i]) return false;
    const T* const uvd = coordinates + 3 * i;
    return std::isfinite(uvd[0]) && std::isfinite(uvd[1]) && std::isfinite(uvd[2]);
  }

  // What a camera that sees the point counts in the sum or mean.
  RP_HOST_DEVICE T share_of_view(int64_t batch, int64_t point) const {
    if (!sizes.mean) return 1;
    int64_t count = 0;
    for (int64_t view = 0; view < sizes.views; ++view) count += sees(batch * sizes.views + view, point);
    return T(1) / static_cast<T>(count > 0 ? count : 1);
  }

  RP_HOST_DEVICE Sight<T> look(int64_t image, int64_t point) const {
    const T* const uvd = coordinates + 3 * (image * sizes.num_points + point);
    Sight<T> sight;
    int64_t column[2], row[2];
    T across[2], down[2];
    const int num_columns = neighbours(index_of(uvd[0], sizes.width), sizes.width, column, across);
    const int num_rows = neighbours(index_of(uvd[1], sizes.height), sizes.height, row, down);
    for (int i = 0; i < num_rows; ++i) {
      for (int j = 0; j < num_columns; ++j) {
        sight.cell[sight.num_cells] = row[i] * sizes.width + column[j];
        sight.weight[sight.num_cells++] = down[i] * across[j];
      }
    }
    sight.bin[0] = sight.bin[1] = 0;
    sight.share[0] = sight.share[1] = 0;
    if (probabilities != nullptr) {
      neighbours(index_of(uvd[2], sizes.depths), sizes.depths, sight.bin, sight.share);
    }
    return sight;
  }

  RP_HOST_DEVICE int64_t probability_index(int64_t image, int64_t cell, int64_t bin) const {
    return image * sizes.depths * sizes.height * sizes.width + cell * sizes.cell_stride +
           bin * sizes.depth_stride;
  }

  RP_HOST_DEVICE T probability(int64_t index) const {
    if (sizes.probability_type == RP_FLOAT16)
      return to_float(static_cast<const Float16*>(probabilities)[index]);
    if (sizes.probability_type == RP_BFLOAT16)
      return to_float(static_cast<const BFloat16*>(probabilities)[index]);
    return static_cast<const T*>(probabilities)[index];
  }

  // Probability of the point's depth, read between cells and bins.
  RP_HOST_DEVICE T likelihood(int64_t image, const Sight<T>& sight) const {
    if (probabilities == nullptr) return 1;
    T total = 0;
    for (int k = 0; k < sight.num_cells; ++k) {
      for (int j = 0; j < 2; ++j) {
        if (sight.share[j] == 0) continue;
        total += sight.weight[k] * sight.share[j] *
                 probability(probability_index(image, sight.cell[k], sight.bin[j]));
      }
    }
    return total;
  }
};

}  // namespace renderpretrain
