// A tile of points of a field: what is read for them, what the networks say, and all the way back.
#pragma once

#include "grid_sample_cpu.h"
#include "injected_mlp_cpu.h"

namespace renderpretrain {

constexpr int64_t kRange = 2 * kTile;  // points of one sample that a thread takes at a time
constexpr int kBlocks = kTile / kLanes;

// Results or their gradients, row by row; null where nobody asks.
template <typename T>
struct Results {
  T *sdf, *gradients, *geometry, *features, *heads[RP_MOST_HEADS];
};

template <typename T>
struct Field {
  rp_field sizes;
  Grid<T> grid;
  int64_t ranges, num_parameters;  // ranges of one sample
  const T *points, *volume, *parameters, *directions;
  const bool* valid;

  explicit Field(const rp_field& field)
      : sizes(field),
        grid(field.grid),
        ranges((grid.num_points + kRange - 1) / kRange),
        num_parameters(MlpShape(field.distance).size()) {
    for (int h = 0; h < field.num_heads; ++h) num_parameters += MlpShape(field.heads[h].mlp).size();
  }

  int64_t num_ranges() const { return sizes.grid.batch * ranges; }
  int64_t num_features() const { return grid.channels - sizes.first_feature; }
  T extent() const { return static_cast<T>(sizes.extent); }
};

// What a range gives the volume, put aside: rows of `stride` numbers for up to kRange points.
template <typename T>
struct Aside {
  int64_t stride, count = 0;
  T *points, *along, *values, *inputs;

  Aside() = default;
  Aside(int64_t channels, Arena<T>* arena)
      : stride(padded(channels)),
        points(arena->numbers(3 * kRange)),
        along(arena->numbers(3 * kRange)),
        values(arena->numbers(stride * kRange)),
        inputs(arena->numbers(stride * kRange)) {}
};

// The points of one tile and everything that is known about them. Names with _points are point by point, the
// others rows of the tile.
template <typename T>
class Tile {
 public:
  Tile(const Field<T>& field, bool slopes, Arena<T>* arena)
      : field(field),
        sizes(field.sizes),
        slopes(slopes),
        stride(padded(field.grid.channels)),
        points(arena->numbers(3 * kTile)),
        position(arena->rows(3)),
        position_points(arena->numbers(kLanes * kTile)),
        values(arena->rows(field.grid.channels)),
        values_points(arena->numbers(stride * kTile)),
        grad_values(arena->rows(field.grid.channels)),
        grad_values_points(arena->numbers(stride * kTile)),
        gradients(arena->rows(3)),
        gradients_points(arena->numbers(kLanes * kTile)),
        grad_gradients(arena->rows(3)),
        grad_gradients_points(arena->numbers(kLanes * kTile)),
        inputs_points(arena->numbers(stride * kTile)),
        geometry_points(arena->numbers(padded(sizes.distance.out - 1) * kTile)),
        rays(arena->rows(sizes.direction_channels)),
        rays_points(arena->numbers(padded(sizes.direction_channels) * kTile)),
        grad_rays(arena->rows(sizes.direction_channels)),
        distance(sizes.distance, slopes, arena) {
    for (int h = 0; h < sizes.num_heads; ++h) heads[h] = TileMlp<T>(sizes.heads[h].mlp, false, arena);
  }

  // Takes the next points that chosen.count from [*next, end) of a sample; false if there is none.
  bool choose(int64_t sample, int64_t* next, int64_t end, const Results<T>* zeros) {
    this->sample = sample;
    const auto skip = [&](int64_t index) {
      if (zeros) clear(*zeros, index);
    };
    return chosen.choose(field.valid, sample * field.grid.num_points, next, end, skip);
  }

  // Everything that is asked for, and what `backward` needs if it follows.
  void forward(bool back) {
    locate();
    read();
    const T* parameters = field.parameters;
    const Piece<T> input = distance_input();
    distance.forward(parameters, position, &input, 1, slopes || back);
    if (slopes) differentiate();
    parameters += distance.shape.size();
    if (sizes.num_heads > 0) {
      transpose(gradients, kTile, 3, kTile, gradients_points, kLanes);
      transpose(distance.out + kTile, kTile, num_geometry(), kTile, geometry_points, padded(num_geometry()));
      read_directions();
    }
    for (int h = 0; h < sizes.num_heads; ++h) {
      Piece<T> pieces[4];
      const int num_pieces = head_input(h, pieces);
      heads[h].forward(parameters, position, pieces, num_pieces, back);
      if (sizes.heads[h].sigmoid) squash(heads[h].shape.out, heads[h].out);
      parameters += heads[h].shape.size();
    }
  }

  void write(const Results<T>& to) const {
    for (int j = 0; j < chosen.count; ++j) {
      if (to.sdf) to.sdf[chosen.indices[j]] = distance.out[j] * field.extent();
    }
    chosen.put(gradients, 3, to.gradients);
    chosen.put(distance.out + kTile, num_geometry(), to.geometry);
    if (to.features) {
      for (int j = 0; j < chosen.count; ++j) {
        const T* const from = values_points + j * stride + sizes.first_feature;
        std::copy_n(from, field.num_features(), to.features + chosen.indices[j] * field.num_features());
      }
    }
    for (int h = 0; h < sizes.num_heads; ++h) chosen.put(heads[h].out, heads[h].shape.out, to.heads[h]);
  }

  // After forward: adds to the gradients of the parameters, puts aside what goes to the volume.
  void backward(const Results<T>& from, T* grads, T* grad_points, T* grad_directions, Aside<T>* aside) {
    take_gradients(from);
    turned = grad_directions != nullptr;
    if (turned) clear_rows(sizes.direction_channels, grad_rays);
    const T* parameters = field.parameters + distance.shape.size();
    T* head_grads = grads + distance.shape.size();
    for (int h = 0; h < sizes.num_heads; ++h) {
      TileMlp<T>& head = heads[h];
      if (from.heads[h]) {
        chosen.take(from.heads[h], head.shape.out, head.grad_out);
        if (sizes.heads[h].sigmoid) squash_backward(head.shape.out, head.out, head.grad_out);
        Piece<T> pieces[4];
        const int num_pieces = head_input(h, pieces);
        head.backward(parameters, position_points, pieces, num_pieces, false, head_grads);
      } else {
        clear_rows(head.shape.position, head.grad_position);
      }
      parameters += head.shape.size();
      head_grads += head.shape.size();
    }
    chosen.put(grad_rays, sizes.direction_channels, grad_directions);
    const Piece<T> input = distance_input();
    if (slopes) differentiate_backward(grads);
    distance.backward(field.parameters, position_points, &input, 1, slopes, grads);
    transpose(grad_values, kTile, field.grid.channels, kTile, grad_values_points, stride);
    if (grad_points) add_point_gradients(grad_points);
    put_aside(aside);
  }

 private:
  const Field<T>& field;
  const rp_field& sizes;
  bool slopes, turned = false;
  int64_t stride, sample = 0;
  TilePoints chosen;
  Block<T> blocks[kBlocks];
  T *points, *position, *position_points, *values, *values_points, *grad_values, *grad_values_points,
      *gradients, *gradients_points, *grad_gradients, *grad_gradients_points, *inputs_points,
      *geometry_points, *rays, *rays_points, *grad_rays;
  TileMlp<T> distance;
  TileMlp<T> heads[RP_MOST_HEADS];

  int64_t num_geometry() const { return sizes.distance.out - 1; }
  const T* volume() const { return field.volume + sample * field.grid.num_voxels() * field.grid.channels; }
  const T* volume_end() const {
    return field.volume + sizes.grid.batch * field.grid.num_voxels() * field.grid.channels;
  }

  Piece<T> distance_input() const {
    return {sizes.distance_channels, values, values_points, stride, grad_values};
  }

  int head_input(int h, Piece<T>* pieces) {
    int n = 0;
    const int64_t first = sizes.first_feature;
    if (sizes.heads[h].directions) {
      pieces[n++] = {sizes.direction_channels, rays, rays_points, padded(sizes.direction_channels),
                     turned ? grad_rays : nullptr};
    }
    pieces[n++] = {field.num_features(), values + first * kTile, values_points + first, stride,
                   grad_values + first * kTile};
    pieces[n++] = {3, gradients, gradients_points, kLanes, grad_gradients};
    pieces[n++] = {num_geometry(), distance.out + kTile, geometry_points, padded(num_geometry()),
                   distance.grad_out + kTile};
    return n;
  }

  void locate() {
    std::fill_n(points, 3 * kTile, T{});
    for (int j = 0; j < chosen.count; ++j)
      std::copy_n(field.points + 3 * chosen.indices[j], 3, points + 3 * j);
    transpose(points, 3, kTile, 3, position, kTile);
    const T share = 1 / field.extent();
    for (int i = 0; i < 3 * kTile; ++i) position[i] *= share;
    transpose(position, kTile, 3, kTile, position_points, kLanes);
    for (int b = 0; b < kBlocks; ++b) {
      blocks[b].begin = b * kLanes;
      blocks[b].end = std::max<int64_t>(b * kLanes, std::min<int64_t>(chosen.count, (b + 1) * kLanes));
      blocks[b].sample = 0;
      blocks[b].locate(field.grid, points, nullptr, Owner{0, 0});
    }
  }

  // The rows of the voxels around point j, with these weights.
  Rows<T, T> around(int j, int64_t channels, const Vector<T>* weights) const {
    const Block<T>& block = blocks[j / kLanes];
    const int lane = j % kLanes;
    Rows<T, T> rows(channels, volume_end());
    const int64_t* size = field.grid.size;
    const int64_t first =
        (block.corner[2][lane] * size[1] + block.corner[1][lane]) * size[0] + block.corner[0][lane];
    for (int k = 0; k < kCorners; ++k) {
      if ((block.inside[lane] >> k & 1) == 0) continue;
      const int64_t voxel = first + (k & 1) + ((k >> 1 & 1) + (k >> 2) * size[1]) * size[0];
      rows.add(volume() + voxel * field.grid.channels, weights[k][lane]);
    }
    return rows;
  }

  void read() {
    std::fill_n(values_points, stride * kTile, T{});
    for (int j = 0; j < chosen.count; ++j) {
      add_rows(around(j, field.grid.channels, blocks[j / kLanes].weight), values_points + j * stride);
    }
    transpose(values_points, stride, kTile, field.grid.channels, values, kTile);
  }

  void read_directions() {
    const int64_t width = sizes.direction_channels;
    if (width == 0) return;
    chosen.gather(field.directions, width, sizes.num_samples, rays_points);
    transpose(rays_points, padded(width), kTile, width, rays, kTile);
  }

  // sums (3 vectors) += sum_k dw_k/dpoint <row of corner k, other>, for the points of a block; with `along`
  // the derivative of that along a direction.
  void add_slopes(int b, int64_t channels, const T* other_points, const Vector<T>* along,
                  Vector<T>* sums) const {
    const Block<T>& block = blocks[b];
    Vector<T> products[kCorners] = {};
    for (int64_t j = block.begin; j < block.end; ++j) {
      const Rows<T, T> rows = around(static_cast<int>(j), channels, block.weight);
      T found[kCorners + 4];
      multiply_rows(rows, other_points + j * stride, found);
      for (int k = 0, n = 0; k < kCorners; ++k) {
        if (block.inside[j % kLanes] >> k & 1) products[k][j % kLanes] = found[n++];
      }
    }
    for (int k = 0; k < kCorners; ++k) {
      Vector<T> slope[3];
      slope_of(field.grid, block.cell, along, k, slope);
      for (int axis = 0; axis < 3; ++axis) sums[axis] = fma<T>(slope[axis], products[k], sums[axis]);
    }
  }

  void differentiate() {
    const int64_t channels = sizes.distance_channels;
    distance.differentiate(field.parameters);
    std::fill_n(inputs_points, stride * kTile, T{});
    transpose(distance.to_input, kTile, channels, kTile, inputs_points, stride);
    for (int b = 0; b < kBlocks; ++b) {
      Vector<T> sums[3] = {};
      add_slopes(b, channels, inputs_points, nullptr, sums);
      for (int axis = 0; axis < 3; ++axis) {
        const int64_t at = axis * kTile + b * kLanes;
        const Vector<T> direct = sizes.distance.position ? load(distance.to_position + at) : Vector<T>{};
        store<T>(gradients + at, fma<T>(field.extent(), sums[axis], direct));
      }
    }
  }

  void differentiate_backward(T* grads) {
    const int64_t channels = sizes.distance_channels;
    T* const by_point = distance.grad_to_input_points;
    std::fill_n(by_point, padded(channels) * kTile, T{});
    for (int b = 0; b < kBlocks; ++b) {
      Vector<T> along[3], weights[kCorners];
      for (int axis = 0; axis < 3; ++axis) {
        along[axis] = field.extent() * load(grad_gradients + axis * kTile + b * kLanes);
      }
      for (int k = 0; k < kCorners; ++k) weights[k] = weight_of(field.grid, blocks[b].cell, along, k);
      for (int64_t j = blocks[b].begin; j < blocks[b].end; ++j) {
        add_rows(around(static_cast<int>(j), channels, weights), by_point + j * padded(channels));
      }
    }
    transpose(by_point, padded(channels), kTile, channels, distance.grad_to_input, kTile);
    transpose(grad_gradients, kTile, 3, kTile, grad_gradients_points, kLanes);
    distance.differentiate_backward(field.parameters, grad_gradients, grad_gradients_points, grads);
  }

  void take_gradients(const Results<T>& from) {
    clear_rows(distance.shape.out, distance.grad_out);
    clear_rows(field.grid.channels, grad_values);
    clear_rows(3, grad_gradients);
    for (int j = 0; from.sdf && j < chosen.count; ++j)
      distance.grad_out[j] = from.sdf[chosen.indices[j]] * field.extent();
    chosen.take(from.gradients, 3, grad_gradients);
    chosen.take(from.geometry, num_geometry(), distance.grad_out + kTile);
    chosen.take(from.features, field.num_features(), grad_values + sizes.first_feature * kTile);
  }

  void clear(const Results<T>& to, int64_t index) const {
    if (to.sdf) to.sdf[index] = 0;
    if (to.gradients) std::fill_n(to.gradients + 3 * index, 3, T{});
    if (to.geometry) std::fill_n(to.geometry + num_geometry() * index, num_geometry(), T{});
    if (to.features) std::fill_n(to.features + field.num_features() * index, field.num_features(), T{});
    for (int h = 0; h < sizes.num_heads; ++h) {
      const int64_t width = heads[h].shape.out;
      if (to.heads[h]) std::fill_n(to.heads[h] + width * index, width, T{});
    }
  }

  void add_point_gradients(T* grad_points) const {
    const T share = 1 / field.extent();
    for (int b = 0; b < kBlocks; ++b) {
      Vector<T> sums[3] = {}, along[3];
      add_slopes(b, field.grid.channels, grad_values_points, nullptr, sums);
      for (int axis = 0; axis < 3; ++axis) {
        along[axis] = field.extent() * load(grad_gradients + axis * kTile + b * kLanes);
      }
      if (slopes) add_slopes(b, sizes.distance_channels, inputs_points, along, sums);
      for (int axis = 0; axis < 3; ++axis) {
        const int64_t at = axis * kTile + b * kLanes;
        if (distance.shape.position) sums[axis] += share * load(distance.grad_position + at);
        for (int h = 0; h < sizes.num_heads; ++h) {
          if (heads[h].shape.position) sums[axis] += share * load(heads[h].grad_position + at);
        }
        for (int64_t j = blocks[b].begin; j < blocks[b].end; ++j) {
          grad_points[3 * chosen.indices[j] + axis] = sums[axis][j % kLanes];
        }
      }
    }
  }

  void put_aside(Aside<T>* aside) const {
    if (aside == nullptr) return;
    const int64_t at = aside->count;
    std::copy_n(points, 3 * chosen.count, aside->points + 3 * at);
    std::copy_n(grad_values_points, chosen.count * stride, aside->values + at * stride);
    if (slopes) {
      transpose(grad_gradients, kTile, 3, chosen.count, aside->along + 3 * at, 3);
      std::copy_n(inputs_points, chosen.count * stride, aside->inputs + at * stride);
    }
    aside->count += chosen.count;
  }
};

}  // namespace renderpretrain
