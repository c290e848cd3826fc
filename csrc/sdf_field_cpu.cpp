// Points are worked on in tiles: read the volume, run the networks, and on the way back run them again and
// reverse them, so that nothing but the results is ever stored. Ranges of points belong to fixed groups, each
// with its own sums for the parameters, and what goes into the volume is put aside and added in the order of
// the points: results do not depend on the number of threads.
#include "sdf_field_cpu.h"

using namespace renderpretrain;

namespace {

constexpr int64_t kGroups = 32;  // ranges on the way back before what they give the volume is added

// Adds what was put aside to the rows of a volume that an owner has.
template <typename T>
void add_to_volume(const Field<T>& field, const Aside<T>& aside, bool slopes, const Owner& owner, T* volume) {
  const Grid<T>& grid = field.grid;
  for (int64_t first = 0; first < aside.count; first += kLanes) {
    Block<T> block;
    block.begin = first;
    block.end = std::min(first + kLanes, aside.count);
    block.sample = 0;
    block.locate(grid, aside.points, slopes ? aside.along : nullptr, owner);
    Vector<T> values[kCorners], slants[kCorners] = {};
    for (int axis = 0; slopes && axis < 3; ++axis) block.along[axis] *= field.extent();
    for (int k = 0; k < kCorners; ++k) {
      values[k] = weight_of<T, Vector<T>>(grid, block.cell, nullptr, k);
      if (slopes) slants[k] = weight_of(grid, block.cell, block.along, k);
    }
    for (int64_t j = first; j < block.end; ++j) {
      const int lane = static_cast<int>(j - first);
      const T *value = aside.values + j * aside.stride, *input = aside.inputs + j * aside.stride;
      const int64_t row = (block.corner[2][lane] * grid.size[1] + block.corner[1][lane]) * grid.size[0];
      for (int k = 0; k < kCorners; ++k) {
        if ((block.owned[lane] >> k & 1) == 0) continue;
        const int64_t step = (k & 1) + ((k >> 1 & 1) + (k >> 2) * grid.size[1]) * grid.size[0];
        T* const to = volume + (row + block.corner[0][lane] + step) * grid.channels;
        for (int64_t c = 0; c < grid.channels; c += kLanes) {
          const int some = static_cast<int>(std::min<int64_t>(kLanes, grid.channels - c));
          Vector<T> sum = fma<T>(values[k][lane], load(value + c), load_up_to(to + c, some));
          if (slopes) sum = fma<T>(slants[k][lane], load(input + c), sum);
          store_up_to<T>(to + c, sum, some);
        }
      }
    }
  }
}

template <typename T>
int64_t tile_numbers(const Field<T>& field, bool slopes) {
  Arena<T> count{nullptr};
  Tile<T>(field, slopes, &count);
  return count.used;
}

template <typename T>
int64_t aside_numbers(const Field<T>& field) {
  Arena<T> count{nullptr};
  Aside<T>(field.grid.channels, &count);
  return count.used;
}

// Numbers for `workers` tiles, and on the way back for all groups.
template <typename T>
int64_t scratch_numbers(const Field<T>& field, bool backward, int64_t workers) {
  const int64_t groups = backward ? kGroups * (aside_numbers(field) + padded(field.num_parameters)) : 0;
  return workers * tile_numbers(field, true) + groups;
}

template <typename T>
void run_forward(const Field<T>& field, const Results<T>& to, T* scratch, int64_t workers) {
  const bool slopes = to.gradients || field.sizes.num_heads > 0;
  const auto make = [&](Arena<T>* arena) { return Tile<T>(field, slopes, arena); };
  const int64_t numbers = tile_numbers(field, slopes);
  share_out(field.num_ranges(), workers, numbers, scratch, make, [&](Tile<T>& tile, int64_t range) {
    int64_t next = range % field.ranges * kRange;
    const int64_t end = std::min(next + kRange, field.grid.num_points);
    while (tile.choose(range / field.ranges, &next, end, &to)) {
      tile.forward(false);
      tile.write(to);
    }
  });
}

template <typename T>
void run_backward(const Field<T>& field, const Results<T>& from, T* scratch, int64_t workers, T* grad_volume,
                  T* grad_points, T* grad_directions, T* grad_parameters) {
  const bool slopes = from.gradients || field.sizes.num_heads > 0;
  const int64_t width = padded(field.num_parameters);
  Arena<T> arena{scratch};
  Aside<T> asides[kGroups];
  for (Aside<T>& aside : asides) aside = Aside<T>(field.grid.channels, &arena);
  T* const sums = arena.numbers(kGroups * width);
  T* const tiles = arena.numbers(0);
  std::fill_n(sums, kGroups * width, T{});
  const auto make = [&](Arena<T>* arena) { return Tile<T>(field, slopes, arena); };
  const int64_t numbers = tile_numbers(field, slopes);
  int owners = 1;
  while (owners < workers) owners *= 2;
  for (int64_t first = 0; first < field.num_ranges(); first += kGroups) {
    const int64_t groups = std::min(kGroups, field.num_ranges() - first);
    share_out(groups, workers, numbers, tiles, make, [&](Tile<T>& tile, int64_t g) {
      const int64_t range = first + g;
      int64_t next = range % field.ranges * kRange;
      const int64_t end = std::min(next + kRange, field.grid.num_points);
      asides[g].count = 0;
      while (tile.choose(range / field.ranges, &next, end, nullptr)) {
        tile.forward(true);
        tile.backward(from, sums + g * width, grad_points, grad_directions,
                      grad_volume ? &asides[g] : nullptr);
      }
    });
    if (grad_volume == nullptr) continue;
    parallel_for(owners, 1, workers, [&](int64_t begin, int64_t end) {
      for (int64_t owner = begin; owner < end; ++owner) {
        for (int64_t g = 0; g < groups; ++g) {
          const int64_t sample = (first + g) / field.ranges;
          T* const volume = grad_volume + sample * field.grid.num_voxels() * field.grid.channels;
          add_to_volume(field, asides[g], slopes, Owner{owners - 1, static_cast<int>(owner)}, volume);
        }
      }
    });
  }
  for (int64_t i = 0; i < field.num_parameters; ++i) {
    T total{};
    for (int64_t g = 0; g < kGroups; ++g) total += sums[g * width + i];
    grad_parameters[i] = total;
  }
}

template <typename T>
Field<T> field_of(const rp_field& sizes, const void* points, const bool* valid, const void* volume,
                  const void* parameters, const void* directions) {
  Field<T> field(sizes);
  field.points = static_cast<const T*>(points);
  field.valid = valid;
  field.volume = static_cast<const T*>(volume);
  field.parameters = static_cast<const T*>(parameters);
  field.directions = static_cast<const T*>(directions);
  return field;
}

int64_t num_workers(int64_t num_threads) { return std::max<int64_t>(1, num_threads); }

}  // namespace

int rp_sdf_field_scratch_cpu(int64_t, void* num_scratch, const rp_field* field, int64_t backward,
                             int64_t num_threads) {
  *static_cast<int64_t*>(num_scratch) =
      scratch_numbers(Field<float>(*field), backward != 0, num_workers(num_threads));
  return RP_OK;
}

int rp_sdf_field_cpu(int64_t type, const void* points, const bool* valid, const void* volume,
                     const void* parameters, const void* directions, const rp_field* field, void* scratch,
                     int64_t num_scratch, void* sdf, void* gradients, void* geometry, void* features,
                     void* head_0, void* head_1, int64_t num_threads) {
  return with_type(type, [&](auto zero) {
    using T = decltype(zero);
    const Field<T> of = field_of<T>(*field, points, valid, volume, parameters, directions);
    const int64_t workers = num_workers(num_threads);
    if (scratch_numbers(of, false, workers) > num_scratch) return RP_TOO_LARGE;
    const auto as = [](void* pointer) { return static_cast<T*>(pointer); };
    const Results<T> to{as(sdf), as(gradients), as(geometry), as(features), {as(head_0), as(head_1)}};
    run_forward(of, to, as(scratch), workers);
    return RP_OK;
  });
}

int rp_sdf_field_backward_cpu(int64_t type, const void* points, const bool* valid, const void* volume,
                              const void* parameters, const void* directions, const rp_field* field,
                              void* scratch, int64_t num_scratch, const void* grad_sdf,
                              const void* grad_gradients, const void* grad_geometry,
                              const void* grad_features, const void* grad_head_0, const void* grad_head_1,
                              void* grad_volume, void* grad_points, void* grad_directions,
                              void* grad_parameters, int64_t num_threads) {
  return with_type(type, [&](auto zero) {
    using T = decltype(zero);
    const Field<T> of = field_of<T>(*field, points, valid, volume, parameters, directions);
    const int64_t workers = num_workers(num_threads);
    if (scratch_numbers(of, true, workers) > num_scratch) return RP_TOO_LARGE;
    const auto as = [](const void* pointer) { return static_cast<T*>(const_cast<void*>(pointer)); };
    const Results<T> from{as(grad_sdf),
                          as(grad_gradients),
                          as(grad_geometry),
                          as(grad_features),
                          {as(grad_head_0), as(grad_head_1)}};
    run_backward(of, from, as(scratch), workers, as(grad_volume), as(grad_points), as(grad_directions),
                 as(grad_parameters));
    return RP_OK;
  });
}
