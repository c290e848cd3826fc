// A tile of points of a field on CUDA: what is read for them, what the networks say, and all the way back, as
// sdf_field_cpu.h has it. A block takes the points of a range, leaves out those that do not count, and works
// on 64 of the rest at a time.
#pragma once

#include <algorithm>
#include <type_traits>

#include "grid_sample.h"
#include "injected_mlp_cuda.h"
#include "tile_points_cuda.h"

namespace renderpretrain {

// Results or their gradients, row by row; null where nobody asks.
template <typename T>
struct FieldResults {
  T *sdf, *gradients, *geometry, *features, *heads[RP_MOST_HEADS];
};

// Gradients that a way back gives; the first three may be null.
template <typename T>
struct FieldGrads {
  T *volume, *points, *directions, *parameters;
};

// What a block has in shared memory beside rows of its tile.
template <typename T>
struct FieldBoard {
  Waiting waiting;
  int64_t voxel[kCorners][kTile];  // in the whole batch, or -1
  T weight[kCorners][kTile], slant[kCorners][kTile], upper[3][kTile];
};

// Rows that fit beside it and what products take into what a block gets without asking, 48 KiB.
template <typename T>
constexpr int kSharedRows =
    static_cast<int>((47 * 1024 - sizeof(FieldBoard<T>) - kStaged * sizeof(T)) / (kRow * sizeof(T)));

// Where a tile's rows are.
struct FieldPlan {
  Rows work, more, position, values, gradients, rays;
  Rows grad_values, grad_gradients, grad_rays, by_points;
  MlpPlan distance, heads[RP_MOST_HEADS];
  int scratch;  // numbers of a block

  FieldPlan(const rp_field& field, bool slopes, bool backward, int shared_rows) {
    Planner planner{shared_rows};
    int64_t widest = field.distance.hidden;
    for (int h = 0; h < field.num_heads; ++h) widest = std::max(widest, field.heads[h].mlp.hidden);
    more = planner.rows(widest);
    work = planner.rows(backward ? field.distance.hidden : 0);
    position = planner.rows(3);
    gradients = planner.rows(3);
    values = planner.rows(field.grid.channels);
    rays = planner.rows(field.direction_channels);
    if (backward) {
      grad_values = planner.rows(field.grid.channels);
      grad_gradients = planner.rows(3);
      grad_rays = planner.rows(field.direction_channels);
      by_points = planner.rows(3);
    }
    distance = MlpPlan(field.distance, slopes, backward, &planner);
    for (int h = 0; h < field.num_heads; ++h) {
      heads[h] = MlpPlan(field.heads[h].mlp, false, backward, &planner);
    }
    scratch = planner.scratch_used;
  }
};

template <typename T>
struct Field {
  rp_field sizes;
  Grid<T> grid;
  FieldPlan plan;
  bool slopes, by_four;                       // whether channels are read four at a time
  int64_t num_points, range, num_parameters;  // of the whole batch, of a block
  const T *points, *volume, *parameters, *directions;
  const bool* valid;
  T* scratch;

  int64_t num_blocks() const { return (num_points + range - 1) / range; }
};

template <typename T>
class FieldTile {
 public:
  __device__ FieldTile(const Field<T>& field, FieldBoard<T>* board, T* shared)
      : field(field),
        plan(field.plan),
        board(board),
        chosen(field.valid, field.num_points, field.range, &board->waiting),
        memory{shared, field.scratch + blockIdx.x * static_cast<int64_t>(plan.scratch)},
        position(memory(plan.position)),
        values(memory(plan.values)),
        gradients(memory(plan.gradients)),
        channels(static_cast<int>(field.grid.channels)),
        read_channels(static_cast<int>(field.sizes.distance_channels)),
        first_feature(static_cast<int>(field.sizes.first_feature)),
        ray_channels(static_cast<int>(field.sizes.direction_channels)),
        num_geometry(static_cast<int>(field.sizes.distance.out) - 1),
        extent(static_cast<T>(field.sizes.extent)) {}

  // Takes the next points that count; false if there is none. The results of the others become zero.
  __device__ bool choose(const FieldResults<T>* zeros) {
    return chosen.choose([=](int64_t first, int some) {
      if (zeros) clear(*zeros, first, some);
    });
  }

  __device__ void forward() {
    locate();
    read();
    TileMlp<T> distance = network(plan.distance, field.parameters);
    const Piece<T> input{read_channels, values, nullptr};
    distance.forward(position, &input, 1);
    if (field.slopes) {
      distance.differentiate();
      differentiate();
    }
    if (field.sizes.num_heads > 0) {
      chosen.take(field.directions, ray_channels, field.sizes.num_samples, memory(plan.rays));
    }
    const T* parameters = field.parameters + plan.distance.shape.size();
    for (int h = 0; h < field.sizes.num_heads; ++h) {
      Piece<T> pieces[4];
      const int num_pieces = head_input(h, false, pieces);
      network(plan.heads[h], parameters).forward(position, pieces, num_pieces);
      parameters += plan.heads[h].shape.size();
      if (field.sizes.heads[h].sigmoid) squash(memory(plan.heads[h].out), head_width(h));
    }
  }

  __device__ void write(const FieldResults<T>& to) const {
    const T* const out = memory(plan.distance.out);
    for_points(chosen.count, to.sdf ? 1 : 0, [=](int j, int) { to.sdf[chosen[j]] = out[j] * extent; });
    chosen.put(gradients, 3, to.gradients);
    chosen.put(out + kRow, num_geometry, to.geometry);
    chosen.put(values + first_feature * kRow, channels - first_feature, to.features);
    for (int h = 0; h < field.sizes.num_heads; ++h)
      chosen.put(memory(plan.heads[h].out), head_width(h), to.heads[h]);
  }

  // After forward; `sums` are the block's own for the parameters.
  __device__ void backward(const FieldResults<T>& from, const FieldGrads<T>& to, T* sums) {
    take_gradients(from);
    const T* parameters = field.parameters + plan.distance.shape.size();
    T* head_sums = sums + plan.distance.shape.size();
    for (int h = 0; h < field.sizes.num_heads; ++h) {
      const MlpPlan& head = plan.heads[h];
      if (from.heads[h]) {
        take_head(h, from.heads[h]);
        Piece<T> pieces[4];
        const int num_pieces = head_input(h, to.directions != nullptr, pieces);
        network(head, parameters).backward(position, pieces, num_pieces, false, head_sums);
      } else {
        fill(memory(head.grad_position), static_cast<int>(head.shape.position));
      }
      parameters += head.shape.size();
      head_sums += head.shape.size();
    }
    chosen.put(memory(plan.grad_rays), ray_channels, to.directions);
    TileMlp<T> distance = network(plan.distance, field.parameters);
    if (field.slopes) {
      read_slants();
      distance.differentiate_backward(memory(plan.grad_gradients), sums);
    }
    const Piece<T> input{read_channels, values, memory(plan.grad_values)};
    distance.backward(position, &input, 1, field.slopes, sums);
    if (to.points) add_point_gradients(to.points);
    if (to.volume) add_to_volume(to.volume);
  }

 private:
  const Field<T>& field;
  const FieldPlan& plan;
  FieldBoard<T>* const board;
  TilePoints chosen;
  const Memory<T> memory;
  T *position, *values, *gradients;
  int channels, read_channels, first_feature, ray_channels, num_geometry;
  T extent;

  __device__ TileMlp<T> network(const MlpPlan& mlp, const T* parameters) const {
    return TileMlp<T>(mlp, memory, parameters, memory(plan.work), memory(plan.more));
  }

  __device__ int head_width(int h) const { return static_cast<int>(plan.heads[h].shape.out); }

  __device__ int head_input(int h, bool turned, Piece<T>* pieces) const {
    int n = 0;
    if (field.sizes.heads[h].directions) {
      pieces[n++] = {ray_channels, memory(plan.rays), turned ? memory(plan.grad_rays) : nullptr};
    }
    pieces[n++] = {channels - first_feature, values + first_feature * kRow,
                   memory(plan.grad_values, first_feature)};
    pieces[n++] = {3, gradients, memory(plan.grad_gradients)};
    pieces[n++] = {num_geometry, memory(plan.distance.out, 1), memory(plan.distance.grad_out, 1)};
    return n;
  }

  __device__ void locate() {
    for (int j = threadIdx.x; j < kTile; j += kTileThreads) {
      const T* const point = field.points + 3 * (j < chosen.count ? chosen[j] : 0);
      Cell<T> cell{};
      const bool meets = j < chosen.count && renderpretrain::locate(field.grid, point, &cell);
      const int64_t first =
          j < chosen.count ? chosen[j] / field.grid.num_points * field.grid.num_voxels() : 0;
      for (int axis = 0; axis < 3; ++axis) {
        position[axis * kRow + j] = j < chosen.count ? point[axis] * (1 / extent) : T(0);
        board->upper[axis][j] = cell.share[axis][1];
      }
      for (int k = 0; k < kCorners; ++k) {
        const int64_t voxel = meets ? voxel_of(field.grid, cell, k) : -1;
        board->voxel[k][j] = voxel < 0 ? -1 : first + voxel;
        board->weight[k][j] = weight_of<T, T>(field.grid, cell, nullptr, k);
      }
    }
    __syncthreads();
  }

  __device__ Cell<T> cell_of(int j) const {
    Cell<T> cell;
    for (int axis = 0; axis < 3; ++axis) {
      cell.share[axis][1] = board->upper[axis][j];
      cell.share[axis][0] = 1 - cell.share[axis][1];
    }
    return cell;
  }

  // Calls run(kWide) with how many channels are read at once.
  template <typename Run>
  __device__ void with_width(Run run) const {
    if (field.by_four) run(std::integral_constant<int, 4>{});
    else run(std::integral_constant<int, 1>{});
  }

  // rows (channels) = sum_k weight_k * volume_k.
  __device__ void gather(int width, const T (*weight)[kTile], T* rows) const {
    with_width([=](auto wide) {
      constexpr int kWide = decltype(wide)::value;
      for_points(kTile, width / kWide, [=](int j, int part) {
        Pack<kWide, T> total{};
        for (int k = 0; k < kCorners; ++k) {
          const int64_t voxel = board->voxel[k][j];
          if (voxel < 0) continue;
          const auto read = pack_at<kWide>(field.volume + voxel * channels + kWide * part);
          for (int i = 0; i < kWide; ++i) total.at[i] = fma(weight[k][j], read.at[i], total.at[i]);
        }
        for (int i = 0; i < kWide; ++i) rows[(kWide * part + i) * kRow + j] = total.at[i];
      });
    });
    __syncthreads();
  }

  __device__ void read() const { gather(channels, board->weight, values); }

  // grad_to_input: how fast what is read changes along the gradient of the gradients.
  __device__ void read_slants() const {
    const T* const grad = memory(plan.grad_gradients);
    for (int i = threadIdx.x; i < kTile * kCorners; i += kTileThreads) {
      const int j = i % kTile, k = i / kTile;
      const T along[3] = {extent * grad[j], extent * grad[kRow + j], extent * grad[2 * kRow + j]};
      board->slant[k][j] = weight_of(field.grid, cell_of(j), along, k);
    }
    __syncthreads();
    gather(read_channels, board->slant, memory(plan.distance.grad_to_input));
  }

  // products[k] += <volume_k, other> at a point, over the channels of this lane.
  __device__ void add_products(int j, int width, const T* other, T* products) const {
    with_width([=](auto wide) {
      constexpr int kWide = decltype(wide)::value;
      for (int c = kWide * (threadIdx.x % kNear); c < width; c += kWide * kNear) {
        T numbers[kWide];
        for (int i = 0; i < kWide; ++i) numbers[i] = other[(c + i) * kRow + j];
        for (int k = 0; k < kCorners; ++k) {
          const int64_t voxel = board->voxel[k][j];
          if (voxel < 0) continue;
          const auto read = pack_at<kWide>(field.volume + voxel * channels + c);
          for (int i = 0; i < kWide; ++i) products[k] = fma(numbers[i], read.at[i], products[k]);
        }
      }
    });
  }

  // Calls put(point, axis, sum_k dw_k/dpoint <volume_k, other>), or, with `along` (three rows), for
  // the derivative of the weights along it.
  template <typename Put>
  __device__ void add_slopes(int width, const T* other, const T* along, Put put) const {
    for (int j = threadIdx.x / kNear; j < kTile; j += kTileThreads / kNear) {
      T product[kCorners] = {};
      add_products(j, width, other, product);
      const Cell<T> cell = cell_of(j);
      T direction[3] = {}, sums[3] = {};
      for (int axis = 0; along && axis < 3; ++axis) direction[axis] = extent * along[axis * kRow + j];
      for (int k = 0; k < kCorners; ++k) {
        T slope[3];
        slope_of(field.grid, cell, along ? direction : nullptr, k, slope);
        for (int axis = 0; axis < 3; ++axis) sums[axis] = fma(slope[axis], product[k], sums[axis]);
      }
      for (int axis = 0; axis < 3; ++axis) {
        const T total = sum_of_lanes<kNear>(sums[axis]);
        if (threadIdx.x % kNear == 0) put(j, axis, total);
      }
    }
    __syncthreads();
  }

  __device__ void differentiate() const {
    const T* const direct = field.sizes.distance.position ? memory(plan.distance.to_position) : nullptr;
    add_slopes(read_channels, memory(plan.distance.to_input), nullptr, [=](int j, int axis, T sum) {
      gradients[axis * kRow + j] = fma(extent, sum, direct ? direct[axis * kRow + j] : T(0));
    });
  }

  __device__ void fill(T* rows, int width) const {
    for_rows(width, [=](int i) { rows[i] = 0; });
  }

  __device__ void take_gradients(const FieldResults<T>& from) const {
    T* const out = memory(plan.distance.grad_out);
    for_points(kTile, 1, [=](int j, int) {
      out[j] = from.sdf && j < chosen.count ? from.sdf[chosen[j]] * extent : T(0);
    });
    chosen.take(from.geometry, num_geometry, 1, out + kRow);
    chosen.take(from.gradients, 3, 1, memory(plan.grad_gradients));
    fill(memory(plan.grad_values), first_feature);
    chosen.take(from.features, channels - first_feature, 1, memory(plan.grad_values, first_feature));
    fill(memory(plan.grad_rays), ray_channels);
  }

  __device__ void take_head(int h, const T* from) const {
    T* const grad = memory(plan.heads[h].grad_out);
    chosen.take(from, head_width(h), 1, grad);
    if (field.sizes.heads[h].sigmoid) squash_backward(memory(plan.heads[h].out), head_width(h), grad);
  }

  __device__ void clear(const FieldResults<T>& to, int64_t first, int some) const {
    chosen.clear(first, some, 1, to.sdf);
    chosen.clear(first, some, 3, to.gradients);
    chosen.clear(first, some, num_geometry, to.geometry);
    chosen.clear(first, some, channels - first_feature, to.features);
    for (int h = 0; h < field.sizes.num_heads; ++h) chosen.clear(first, some, head_width(h), to.heads[h]);
  }

  __device__ void add_point_gradients(T* to) const {
    T* const sums = memory(plan.by_points);
    const T share = 1 / extent;
    add_slopes(channels, memory(plan.grad_values), nullptr,
               [=](int j, int axis, T sum) { sums[axis * kRow + j] = sum; });
    if (field.slopes) {
      add_slopes(read_channels, memory(plan.distance.to_input), memory(plan.grad_gradients),
                 [=](int j, int axis, T sum) { sums[axis * kRow + j] += sum; });
    }
    const auto add = [=](const MlpPlan& mlp) {
      const T* const grad = memory(mlp.grad_position);
      if (mlp.shape.position) for_rows(3, [=](int i) { sums[i] = fma(share, grad[i], sums[i]); });
    };
    add(plan.distance);
    for (int h = 0; h < field.sizes.num_heads; ++h) add(plan.heads[h]);
    chosen.put(sums, 3, to);
  }

  __device__ void add_to_volume(T* to) const {
    const T *const grad = memory(plan.grad_values), *const input = memory(plan.distance.to_input);
    with_width([=](auto wide) {
      constexpr int kWide = decltype(wide)::value;
      for_points(chosen.count, channels / kWide, [=](int j, int part) {
        const int c = kWide * part;
        const bool sloped = field.slopes && c < read_channels;
        T numbers[kWide], others[kWide];
        for (int i = 0; i < kWide; ++i) {
          numbers[i] = grad[(c + i) * kRow + j];
          others[i] = sloped ? input[(c + i) * kRow + j] : T(0);
        }
        for (int k = 0; k < kCorners; ++k) {
          const int64_t voxel = board->voxel[k][j];
          if (voxel < 0) continue;
          const T weight = board->weight[k][j], slant = sloped ? board->slant[k][j] : T(0);
          Pack<kWide, T> sums;
          for (int i = 0; i < kWide; ++i) sums.at[i] = fma(slant, others[i], weight * numbers[i]);
          add_atomically(to + voxel * channels + c, sums);
        }
      });
    });
  }
};

}  // namespace renderpretrain
