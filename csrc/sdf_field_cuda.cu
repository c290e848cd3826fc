// A block works on a range of points, tile by tile: it reads the volume, runs the networks, and on the way
// back runs them again and reverses them, so that nothing but the results is ever stored. What a tile needs
// lies in shared memory, and where that is full, in a part of the scratch that is small enough for caches.
//
// Blocks have their own sums for the parameters, added in a fixed order, and there are at most so many on
// every card: gradients by parameters are the same on all of them. What goes into the volume is added in any
// order.
#include <algorithm>

#include "sdf_field_cuda.h"

namespace renderpretrain {

constexpr int64_t kMostBlocks = 528;  // four for each of the 132 processors of an H100
constexpr int kSumThreads = 8, kSums = 32;

template <typename T>
__global__ void __launch_bounds__(kTileThreads, 4) forward_kernel(const Field<T> field, const Results<T> to) {
  using Here = Board<T>;
  using Numbers = T;
  __shared__ Here board[1];
  __shared__ Numbers rows[kSharedRows<T> * kRow];
  FieldTile<T> tile(field, board, rows);
  int64_t next = blockIdx.x * field.range;
  const int64_t rest = field.num_points - next, end = next + (rest < field.range ? rest : field.range);
  while (tile.choose(&next, end, &to)) {
    tile.forward();
    tile.write(to);
  }
}

template <typename T>
__global__ void __launch_bounds__(kTileThreads, 4)
    backward_kernel(const Field<T> field, const Results<T> from, const Grads<T> to, T* sums) {
  using Here = Board<T>;
  using Numbers = T;
  __shared__ Here board[1];
  __shared__ Numbers rows[kSharedRows<T> * kRow];
  T* const own = sums + blockIdx.x * field.num_parameters;
  for (int64_t i = threadIdx.x; i < field.num_parameters; i += kTileThreads) own[i] = 0;
  FieldTile<T> tile(field, board, rows);
  int64_t next = blockIdx.x * field.range;
  const int64_t rest = field.num_points - next, end = next + (rest < field.range ? rest : field.range);
  while (tile.choose(&next, end, nullptr)) {
    tile.forward();
    tile.backward(from, to, own);
  }
}

// Gradients by parameters from the sums of all blocks; kSumThreads threads add every so many-th of them.
template <typename T>
__global__ void sum_kernel(const T* sums, int64_t num_sums, int64_t num_parameters, T* totals) {
  using Numbers = T;
  __shared__ Numbers parts[kSumThreads][kSums];
  const int own = threadIdx.x % kSums, part = threadIdx.x / kSums;
  const int64_t i = blockIdx.x * static_cast<int64_t>(kSums) + own;
  T total = 0;
  for (int64_t b = part; i < num_parameters && b < num_sums; b += kSumThreads)
    total += sums[b * num_parameters + i];
  parts[part][own] = total;
  __syncthreads();
  if (part != 0 || i >= num_parameters) return;
  for (int p = 1; p < kSumThreads; ++p) total += parts[p][own];
  totals[i] = total;
}

template <typename T>
Field<T> field_of(const rp_field& sizes, bool slopes, bool backward) {
  Field<T> field{sizes, Grid<T>(sizes.grid), Plan(sizes, slopes, backward, kSharedRows<T>), slopes};
  const int64_t tiles = (sizes.grid.batch * sizes.grid.num_points + kTile - 1) / kTile;
  field.num_points = sizes.grid.batch * sizes.grid.num_points;
  field.range = std::max<int64_t>(1, (tiles + kMostBlocks - 1) / kMostBlocks) * kTile;
  field.num_parameters = MlpShape(sizes.distance).size();
  for (int h = 0; h < sizes.num_heads; ++h) field.num_parameters += MlpShape(sizes.heads[h].mlp).size();
  return field;
}

template <typename T>
int64_t scratch_numbers(const Field<T>& field, bool backward) {
  return field.num_blocks() * (field.plan.scratch + (backward ? field.num_parameters : 0));
}

template <typename... Parameters, typename... Arguments>
int launch_blocks(void (*kernel)(Parameters...), int64_t blocks, int threads, void* stream,
                  Arguments... arguments) {
  if (blocks == 0) return RP_OK;
  if (blocks > INT32_MAX) return cudaErrorInvalidConfiguration;
  kernel<<<static_cast<unsigned>(blocks), threads, 0, static_cast<cudaStream_t>(stream)>>>(arguments...);
  return cudaGetLastError();
}

// What both passes read, and where the way back adds to.
struct Inputs {
  const void *points, *volume, *parameters, *directions, *grad_volume;
  const bool* valid;
  void* scratch;
  int64_t num_scratch;
};

// Calls run(field) with the field in numbers of T; RP_TOO_LARGE where the scratch is too small for it.
template <typename T, typename Run>
int with_field(const rp_field& sizes, bool slopes, bool backward, const Inputs& inputs, Run run) {
  Field<T> field = field_of<T>(sizes, slopes, backward);
  if (scratch_numbers(field, backward) > inputs.num_scratch) return RP_TOO_LARGE;
  field.points = static_cast<const T*>(inputs.points);
  field.volume = static_cast<const T*>(inputs.volume);
  field.parameters = static_cast<const T*>(inputs.parameters);
  field.directions = static_cast<const T*>(inputs.directions);
  field.valid = inputs.valid;
  field.scratch = static_cast<T*>(inputs.scratch);
  field.by_four = sizeof(T) == sizeof(float) && sizes.grid.channels % 4 == 0 &&
                  sizes.distance_channels % 4 == 0 && is_aligned_to_four(inputs.volume) &&
                  is_aligned_to_four(inputs.grad_volume);
  return run(field);
}

}  // namespace renderpretrain

using namespace renderpretrain;

int rp_sdf_field_scratch_cuda(int64_t type, void* num_scratch, const rp_field* field, int64_t backward,
                              void*) {
  return with_type(type, [&](auto zero) {
    using T = decltype(zero);
    int64_t most = 0;
    for (const bool slopes : {false, true}) {
      most = std::max(most, scratch_numbers(field_of<T>(*field, slopes, backward != 0), backward != 0));
    }
    *static_cast<int64_t*>(num_scratch) = most;
    return RP_OK;
  });
}

int rp_sdf_field_cuda(int64_t type, const void* points, const bool* valid, const void* volume,
                      const void* parameters, const void* directions, const rp_field* field, void* scratch,
                      int64_t num_scratch, void* sdf, void* gradients, void* geometry, void* features,
                      void* head_0, void* head_1, void* stream) {
  return with_type(type, [&](auto zero) {
    using T = decltype(zero);
    const auto as = [](void* pointer) { return static_cast<T*>(pointer); };
    const Results<T> to{as(sdf), as(gradients), as(geometry), as(features), {as(head_0), as(head_1)}};
    const Inputs inputs{points, volume, parameters, directions, nullptr, valid, scratch, num_scratch};
    return with_field<T>(*field, gradients || field->num_heads > 0, false, inputs, [&](const Field<T>& of) {
      return launch_blocks(forward_kernel<T>, of.num_blocks(), kTileThreads, stream, of, to);
    });
  });
}

int rp_sdf_field_backward_cuda(int64_t type, const void* points, const bool* valid, const void* volume,
                               const void* parameters, const void* directions, const rp_field* field,
                               void* scratch, int64_t num_scratch, const void* grad_sdf,
                               const void* grad_gradients, const void* grad_geometry,
                               const void* grad_features, const void* grad_head_0, const void* grad_head_1,
                               void* grad_volume, void* grad_points, void* grad_directions,
                               void* grad_parameters, void* stream) {
  return with_type(type, [&](auto zero) {
    using T = decltype(zero);
    const auto as = [](const void* pointer) { return static_cast<T*>(const_cast<void*>(pointer)); };
    const Results<T> from{as(grad_sdf),
                          as(grad_gradients),
                          as(grad_geometry),
                          as(grad_features),
                          {as(grad_head_0), as(grad_head_1)}};
    const Grads<T> to{as(grad_volume), as(grad_points), as(grad_directions), as(grad_parameters)};
    const Inputs inputs{points, volume, parameters, directions, grad_volume, valid, scratch, num_scratch};
    const bool slopes = grad_gradients || field->num_heads > 0;
    return with_field<T>(*field, slopes, true, inputs, [&](const Field<T>& of) {
      T* const sums = of.scratch + of.num_blocks() * of.plan.scratch;
      const int code =
          launch_blocks(backward_kernel<T>, of.num_blocks(), kTileThreads, stream, of, from, to, sums);
      if (code != RP_OK) return code;
      const int64_t blocks = (of.num_parameters + kSums - 1) / kSums;
      return launch_blocks(sum_kernel<T>, blocks, kSums * kSumThreads, stream, sums, of.num_blocks(),
                           of.num_parameters, to.parameters);
    });
  });
}
