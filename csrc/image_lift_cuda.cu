// A group of lanes per point, which take neighbouring channels, so that every row of a map is read at once;
// where memory allows, a lane takes four channels at once.
#include "image_lift.h"

#include <initializer_list>

#include "common/pack_cuda.h"
#include "common/warp_cuda.h"

namespace renderpretrain {

// kGroup lanes, a power of two up to a warp, share a point, each with kPack channels at a time and kTogether
// times as many in one walk over the cameras.
template <int kGroup, int kPack, int kTogether, typename T, typename S>
__global__ void image_lift_kernel(Lift<T> lift, const S* features, int64_t count, T* values) {
  const int64_t i = thread_index() / kGroup;
  const int lane = static_cast<int>(threadIdx.x % kGroup);
  if (i >= count) return;
  const int64_t batch = i / lift.sizes.num_points, point = i % lift.sizes.num_points;
  const int64_t num_cells = lift.sizes.height * lift.sizes.width, channels = lift.sizes.channels;
  const T share = lift.share_of_view(batch, point);
  for (int64_t first = kPack * lane; first < channels; first += kTogether * kPack * kGroup) {
    Pack<kPack, T> total[kTogether] = {};
    for (int64_t image = batch * lift.sizes.views; image < (batch + 1) * lift.sizes.views; ++image) {
      if (!lift.sees(image, point)) continue;
      const Sight<T> sight = lift.look(image, point);
      const T scale = share * lift.likelihood(image, sight);
      for (int k = 0; k < sight.num_cells; ++k) {
        const S* const row = features + (image * num_cells + sight.cell[k]) * channels;
        for (int j = 0; j < kTogether; ++j) {
          const int64_t c = first + j * kPack * kGroup;
          if (c >= channels) continue;
          const auto stored = pack_at<kPack>(row + c);
          for (int p = 0; p < kPack; ++p) {
            total[j].at[p] += scale * sight.weight[k] * to_float(stored.at[p]);
          }
        }
      }
    }
    for (int j = 0; j < kTogether; ++j) {
      const int64_t c = first + j * kPack * kGroup;
      if (c < channels) *reinterpret_cast<Pack<kPack, T>*>(values + i * channels + c) = total[j];
    }
  }
}

// A warp per point and camera.
template <int kPack, typename T, typename S>
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
  for (int64_t c = kPack * lane; c < channels; c += kPack * kWarp) {
    const auto value = pack_at<kPack>(grad + (batch * lift.sizes.num_points + point) * channels + c);
    for (int k = 0; k < sight.num_cells; ++k) {
      const int64_t place = (image * num_cells + sight.cell[k]) * channels + c;
      if (grad_features != nullptr) {
        Pack<kPack, T> part;
        for (int p = 0; p < kPack; ++p) part.at[p] = scale * sight.weight[k] * value.at[p];
        add_atomically(grad_features + place, part);
      }
      if (grad_probabilities != nullptr) {
        const auto stored = pack_at<kPack>(features + place);
        for (int p = 0; p < kPack; ++p) product += value.at[p] * (sight.weight[k] * to_float(stored.at[p]));
      }
    }
  }
  if (grad_probabilities == nullptr) return;
  for (int step = kWarp / 2; step > 0; step /= 2) product += __shfl_xor_sync(kWholeWarp, product, step);
  const int k = static_cast<int>(lane) / 2, bin = static_cast<int>(lane) % 2;
  if (k >= sight.num_cells || sight.share[bin] == 0) return;
  atomicAdd(grad_probabilities + lift.probability_index(image, sight.cell[k], sight.bin[bin]),
            share * product * sight.weight[k] * sight.share[bin]);
}

// Whether a lane may take four channels at once.
template <typename T>
bool has_fours(int64_t channels, std::initializer_list<const void*> memory) {
  if (sizeof(T) != sizeof(float) || channels % 4 != 0) return false;
  for (const void* place : memory) {
    if (!is_aligned_to_four(place)) return false;
  }
  return true;
}

}  // namespace renderpretrain

using namespace renderpretrain;

int rp_image_lift_cuda(int64_t type, const void* coordinates, const bool* valid, const void* features,
                       const void* probabilities, const rp_lift* sizes, void* values, void* stream) {
  return with_types(type, sizes->feature_type, [&](auto zero, auto stored) {
    using T = decltype(zero);
    using S = decltype(stored);
    const Lift<T> lift{*sizes, static_cast<const T*>(coordinates), valid, probabilities};
    const int64_t count = sizes->batch * sizes->num_points, channels = sizes->channels;
    const S* const maps = static_cast<const S*>(features);
    T* const out = static_cast<T*>(values);
    if constexpr (sizeof(T) == sizeof(float)) {
      if (has_fours<T>(channels, {features, values})) {
        if (channels <= 64) {
          return launch(image_lift_kernel<16, 4, 1, T, S>, count * 16, stream, lift, maps, count, out);
        }
        return launch(image_lift_kernel<kWarp, 4, 2, T, S>, count * kWarp, stream, lift, maps, count, out);
      }
    }
    return launch(image_lift_kernel<kWarp, 1, 4, T, S>, count * kWarp, stream, lift, maps, count, out);
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
    const T* const upstream = static_cast<const T*>(grad);
    const S* const maps = static_cast<const S*>(features);
    T *const by_maps = static_cast<T*>(grad_features), *const by_depths = static_cast<T*>(grad_probabilities);
    if constexpr (sizeof(T) == sizeof(float)) {
      if (has_fours<T>(sizes->channels, {grad, features, grad_features})) {
        return launch(image_lift_backward_kernel<4, T, S>, count * kWarp, stream, lift, upstream, maps, count,
                      by_maps, by_depths);
      }
    }
    return launch(image_lift_backward_kernel<1, T, S>, count * kWarp, stream, lift, upstream, maps, count,
                  by_maps, by_depths);
  });
}
