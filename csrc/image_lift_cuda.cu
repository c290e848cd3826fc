// A warp per point; its lanes take neighbouring channels, so that every row of a map is read at once.
#include "image_lift.h"
#include "common/warp_cuda.h"

namespace renderpretrain {

constexpr int kTogether = 4;  // channels of a lane that are summed in one walk over the cameras

template <typename T, typename S>
__global__ void image_lift_kernel(Lift<T> lift, const S* features, int64_t count, T* values) {
  const int64_t i = thread_index() / kWarp;
  const int64_t lane = thread_index() % kWarp;
  if (i >= count) return;
  const int64_t batch = i / lift.sizes.num_points, point = i % lift.sizes.num_points;
  const int64_t num_cells = lift.sizes.height * lift.sizes.width, channels = lift.sizes.channels;
  const T share = lift.share_of_view(batch, point);
  for (int64_t first = lane; first < channels; first += kTogether * kWarp) {
    T total[kTogether] = {};
    for (int64_t image = batch * lift.sizes.views; image < (batch + 1) * lift.sizes.views; ++image) {
      if (!lift.sees(image, point)) continue;
      const Sight<T> sight = lift.look(image, point);
      const T scale = share * lift.likelihood(image, sight);
      for (int k = 0; k < sight.num_cells; ++k) {
        const S* const row = features + (image * num_cells + sight.cell[k]) * channels;
        for (int j = 0; j < kTogether; ++j) {
          const int64_t c = first + j * kWarp;
          if (c < channels) total[j] += scale * sight.weight[k] * to_float(row[c]);
        }
      }
    }
    for (int j = 0; j < kTogether; ++j) {
      const int64_t c = first + j * kWarp;
      if (c < channels) values[i * channels + c] = total[j];
    }
  }
}

// A warp per point and camera.
template <typename T, typename S>
__global__ void image_lift_backward_kernel(Lift<T> lift, const T* grad, const S* features, int64_t count,
                                           T* grad_features, T* grad_probabilities) {
  const int64_t i = thread_index() / kWarp;
  const int64_t lane = thread_index() % kWarp;
  if (i >= count) return;  // whole warps leave together, here and below
  const int64_t image = i / lift.sizes.num_points, point = i % lift.sizes.num_points;
  if (!lift.sees(image, point)) return;
  const int64_t num_cells = lift.sizes.height * lift.sizes.width, channels = lift.sizes.channels;
  const int64_t batch = image / lift.sizes.views;
  const T share = lift.share_of_view(batch, point);
  const Sight<T> sight = lift.look(image, point);
  const T scale = share * lift.likelihood(image, sight);
  T product = 0;
  for (int64_t c = lane; c < channels; c += kWarp) {
    const T value = grad[(batch * lift.sizes.num_points + point) * channels + c];
    for (int k = 0; k < sight.num_cells; ++k) {
      const int64_t place = (image * num_cells + sight.cell[k]) * channels + c;
      if (grad_features != nullptr) atomicAdd(grad_features + place, scale * sight.weight[k] * value);
      if (grad_probabilities != nullptr) product += value * (sight.weight[k] * to_float(features[place]));
    }
  }
  if (grad_probabilities == nullptr) return;
  for (int step = kWarp / 2; step > 0; step /= 2) product += __shfl_xor_sync(kWholeWarp, product, step);
  const int k = static_cast<int>(lane) / 2, bin = static_cast<int>(lane) % 2;
  if (k >= sight.num_cells || sight.share[bin] == 0) return;
  atomicAdd(grad_probabilities + lift.probability_index(image, sight.cell[k], sight.bin[bin]),
            share * product * sight.weight[k] * sight.share[bin]);
}

}  // namespace renderpretrain

using namespace renderpretrain;

int rp_image_lift_cuda(int64_t type, const void* coordinates, const bool* valid, const void* features,
                       const void* probabilities, const rp_lift* sizes, void* values, void* stream) {
  return with_types(type, sizes->feature_type, [&](auto zero, auto stored) {
    using T = decltype(zero);
    using S = decltype(stored);
    const Lift<T> lift{*sizes, static_cast<const T*>(coordinates), valid, probabilities};
    const int64_t count = sizes->batch * sizes->num_points;
    return launch(image_lift_kernel<T, S>, count * kWarp, stream, lift, static_cast<const S*>(features),
                  count, static_cast<T*>(values));
  });
}

int rp_image_lift_backward_cuda(int64_t type, const void* coordinates, const bool* valid,
                                const void* features, const void* probabilities, const void* grad,
                                const rp_lift* sizes, void* grad_features, void* grad_probabilities,
                                void* stream) {
  return with_types(type, sizes->feature_type, [&](auto zero, auto stored) {
    using T = decltype(zero);
    using S = decltype(stored);
    const Lift<T> lift{*sizes, static_cast<const T*>(coordinates), valid, probabilities};
    const int64_t count = sizes->batch * sizes->views * sizes->num_points;
    return launch(image_lift_backward_kernel<T, S>, count * kWarp, stream, lift, static_cast<const T*>(grad),
                  static_cast<const S*>(features), count, static_cast<T*>(grad_features),
                  static_cast<T*>(grad_probabilities));
  });
}
