// A block works on its points tile by tile: it reads the volume, runs the networks, and on the way back runs
// them again and reverses them, so that nothing but the results is ever stored. What a tile needs lies in
// shared memory, and where that is full, in a part of the scratch that is small enough for caches. What goes
// into the volume is added in any order. Heads are read by their number, for which a thread would copy
// arguments that may change.
#include <algorithm>

#include "sdf_field_cuda.h"

namespace renderpretrain {

template <typename T>
__global__ void __launch_bounds__(kTileThreads, 4)
    field_kernel(const __grid_constant__ Field<T> field, const __grid_constant__ FieldResults<T> to) {
  using Board = FieldBoard<T>;
  using Four = Pack<4, T>;
  __shared__ Board board[1];
  __shared__ Four rows[kSharedRows<T> * kRow / 4];
  FieldTile<T> tile(field, board, rows[0].at);
  while (tile.choose(&to)) {
    tile.forward();
    tile.write(to);
  }
}

template <typename T>
__global__ void __launch_bounds__(kTileThreads, 4)
    field_backward_kernel(const __grid_constant__ Field<T> field,
                          const __grid_constant__ FieldResults<T> from,
                          const __grid_constant__ FieldGrads<T> to, T* sums) {
  using Board = FieldBoard<T>;
  using Four = Pack<4, T>;
  __shared__ Board board[1];
  __shared__ Four rows[kSharedRows<T> * kRow / 4];
  T* const own = sums + blockIdx.x * field.num_parameters;
  for (int64_t i = threadIdx.x; i < field.num_parameters; i += kTileThreads) own[i] = 0;
  FieldTile<T> tile(field, board, rows[0].at);
  while (tile.choose(nullptr)) {
    tile.forward();
    tile.backward(from, to, own);
  }
}

template <typename T>
Field<T> field_of(const rp_field& sizes, bool slopes, bool backward) {
  Field<T> field{sizes, Grid<T>(sizes.grid), FieldPlan(sizes, slopes, backward, kSharedRows<T>), slopes};
  field.num_points = sizes.grid.batch * sizes.grid.num_points;
  field.num_parameters = MlpShape(sizes.distance).size();
  for (int h = 0; h < sizes.num_heads; ++h) field.num_parameters += MlpShape(sizes.heads[h].mlp).size();
  field.range = points_of_block(field.num_points, field.plan.scratch + (backward ? field.num_parameters : 0));
  return field;
}

template <typename T>
int64_t scratch_numbers(const Field<T>& field, bool backward) {
  return field.num_blocks() * (field.plan.scratch + (backward ? field.num_parameters : 0));
}

// What both passes read, and where the way back adds to.
struct FieldInputs {
  const void *points, *volume, *parameters, *directions, *grad_volume;
  const bool* valid;
  void* scratch;
  int64_t num_scratch;
};

// Calls run(field) with the field in numbers of T; RP_TOO_LARGE where the scratch is too small for it.
template <typename T, typename Run>
int with_field(const rp_field& sizes, bool slopes, bool backward, const FieldInputs& inputs, Run run) {
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
    const FieldResults<T> to{as(sdf), as(gradients), as(geometry), as(features), {as(head_0), as(head_1)}};
    const FieldInputs inputs{points, volume, parameters, directions, nullptr, valid, scratch, num_scratch};
    return with_field<T>(*field, gradients || field->num_heads > 0, false, inputs, [&](const Field<T>& of) {
      return launch_blocks(field_kernel<T>, of.num_blocks(), kTileThreads, stream, of, to);
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
    const FieldResults<T> from{as(grad_sdf),
                               as(grad_gradients),
                               as(grad_geometry),
                               as(grad_features),
                               {as(grad_head_0), as(grad_head_1)}};
    const FieldGrads<T> to{as(grad_volume), as(grad_points), as(grad_directions), as(grad_parameters)};
    const FieldInputs inputs{points,      volume, parameters, directions,
                             grad_volume, valid,  scratch,    num_scratch};
    const bool slopes = grad_gradients || field->num_heads > 0;
    return with_field<T>(*field, slopes, true, inputs, [&](const Field<T>& of) {
      T* const sums = of.scratch + of.num_blocks() * of.plan.scratch;
      const int code =
          launch_blocks(field_backward_kernel<T>, of.num_blocks(), kTileThreads, stream, of, from, to, sums);
      if (code != RP_OK) return code;
      return add_sums(sums, of.num_blocks(), of.num_parameters, to.parameters, stream);
    });
  });
}
