// A small network on a tile of points: its values, the gradient of its first output by its inputs, and the
// gradients of a loss on both, by reversing the gradient first and the values then.
//
// With h_0 = embed(p), layer l computes u_l = h_l + inject_l(x), z_l = layer_l(u_l), h_{l+1} = act(z_l); the
// last z is the output. Backwards from its first row, t = layer^T e_0 for the last layer, d_l = act'(z_l) *
// t_{l+1}, t_l = layer_l^T d_l; sum_l inject_l^T t_l is the gradient by x and embed^T t_0 the one by p.
#pragma once

#include "injected_mlp.h"
#include "tile_points_cpu.h"

namespace renderpretrain {

// Some of a network's inputs: as rows of a tile, point by point (kTile rows of `stride` numbers), and what is
// added to their gradients, unless null.
template <typename T>
struct Piece {
  int64_t channels;
  const T *rows, *points;
  int64_t stride;
  T* grads;
};

template <typename T>
class TileMlp {
 public:
  MlpShape shape;
  T *out, *grad_out;                        // out rows
  T *to_input, *to_position;                // gradient of the first output: in and position rows
  T *grad_to_input, *grad_to_input_points;  // a loss's gradient by to_input, also point by point
  T* grad_position;                         // position rows

  TileMlp() = default;

  // `with_slopes` where the gradient of the first output is asked for.
  TileMlp(const rp_mlp& mlp, bool with_slopes, Arena<T>* arena)
      : shape(mlp), kind(mlp.activation), beta(static_cast<T>(mlp.beta)) {
    const int64_t hidden = shape.hidden, inner = shape.layers - 1;
    out = arena->rows(shape.out);
    grad_out = arena->rows(shape.out);
    grad_position = arena->rows(shape.position);
    u = arena->rows(shape.layers * hidden);
    slope = arena->rows(inner * hidden);
    work = arena->rows(hidden);
    more = arena->rows(hidden);
    by_point = arena->numbers(kTile * padded(hidden));
    if (!with_slopes) return;
    to_input = arena->rows(shape.in);
    to_position = arena->rows(shape.position);
    grad_to_input = arena->rows(shape.in);
    grad_to_input_points = arena->numbers(kTile * padded(shape.in));
    curvature = arena->rows(inner * hidden);
    t = arena->rows(shape.layers * hidden);
    d = arena->rows(inner * hidden);
    grad_z = arena->rows(inner * hidden);
  }

  // The output, and with slopes what the functions below need.
  void forward(const T* parameters, const T* position, const Piece<T>* pieces, int num_pieces, bool slopes) {
    const int64_t hidden = shape.hidden;
    for (int64_t l = 0; l < shape.layers; ++l) {
      T* const sum = rows_of(u, l);
      const T* inject = parameters + shape.inject(l);
      Start<T> start{l > 0, parameters + shape.inject_bias(l)};  // later layers hold it already
      for (int i = 0; i < num_pieces; inject += pieces[i++].channels) {
        product<false>(hidden, pieces[i].channels, inject, shape.in, pieces[i].rows, start, sum);
        start.held = true;
      }
      if (l == 0 && shape.position) {
        product<false>(hidden, shape.position, parameters, shape.position, position, kHeld, sum);
        add_to_rows(parameters + shape.embed_bias(), hidden, sum);
      }
      const bool last = l + 1 == shape.layers;
      T* const z = last ? out : work;
      const Start<T> bias{false, parameters + shape.layer_bias(l)};
      product<false>(shape.width(l), hidden, parameters + shape.layer(l), hidden, sum, bias, z);
      if (last) break;
      activate<T>(kind, beta, hidden,
                  {z, parameters + shape.inject_bias(l + 1), rows_of(u, l + 1),
                   slopes ? rows_of(slope, l) : nullptr, curvature ? rows_of(curvature, l) : nullptr});
    }
  }

  // to_input and to_position, after forward.
  void differentiate(const T* parameters) {
    const int64_t hidden = shape.hidden, last = shape.layers - 1;
    fill_rows(parameters + shape.layer(last), hidden, rows_of(t, last));
    for (int64_t l = last; l >= 0; --l) {
      const T* const above = rows_of(t, l);
      product<true>(shape.in, hidden, parameters + shape.inject(l), shape.in, above, l < last ? kHeld : kZero,
                    to_input);
      if (l == 0) break;
      times(rows_of(slope, l - 1), above, hidden, rows_of(d, l - 1));
      product<true>(hidden, hidden, parameters + shape.layer(l - 1), hidden, rows_of(d, l - 1), kZero,
                    rows_of(t, l - 1));
    }
    if (shape.position == 0) return;
    product<true>(shape.position, hidden, parameters, shape.position, t, kZero, to_position);
  }

  // From gradients by to_input and to_position (rows, and point by point in padded ones) to those by the
  // parameters, and to what `backward` adds to those by z.
  void differentiate_backward(const T* parameters, const T* by_position, const T* by_position_points,
                              T* grads) {
    const int64_t hidden = shape.hidden, last = shape.layers - 1;
    if (shape.position) {
      product<false>(hidden, shape.position, parameters, shape.position, by_position, kZero, work);
      add_product(hidden, shape.position, t, by_position_points, padded(shape.position), grads,
                  shape.position);
    }
    for (int64_t l = 0; l <= last; ++l) {
      product<false>(hidden, shape.in, parameters + shape.inject(l), shape.in, grad_to_input,
                     l > 0 || shape.position ? kHeld : kZero, work);
      add_product(hidden, shape.in, rows_of(t, l), grad_to_input_points, padded(shape.in),
                  grads + shape.inject(l), shape.in);
      if (l == last) break;
      product<false>(hidden, hidden, parameters + shape.layer(l), hidden, work, kZero, more);
      add_outer(rows_of(d, l), hidden, work, grads + shape.layer(l));
      bend(rows_of(curvature, l), rows_of(t, l + 1), more, hidden, rows_of(grad_z, l));
      times(rows_of(slope, l), more, hidden, work);
    }
    add_row_sums(work, hidden, grads + shape.layer(last));
  }

  // From grad_out, and `second` after differentiate_backward, to the gradients by pieces, parameters and
  // grad_position.
  void backward(const T* parameters, const T* position_points, const Piece<T>* pieces, int num_pieces,
                bool second, T* grads) {
    const int64_t hidden = shape.hidden;
    for (int64_t l = shape.layers - 1; l >= 0; --l) {
      const bool last = l + 1 == shape.layers;
      T* const above = last ? grad_out : more;
      if (!last) {
        times(rows_of(slope, l), work, hidden, above);
        if (second) plus(rows_of(grad_z, l), hidden, above);
      }
      add_row_sums(above, shape.width(l), grads + shape.layer_bias(l));
      add_outer(above, shape.width(l), rows_of(u, l), grads + shape.layer(l));
      product<true>(hidden, shape.width(l), parameters + shape.layer(l), hidden, above, kZero, work);
      add_row_sums(work, hidden, grads + shape.inject_bias(l));
      int64_t first = shape.inject(l);
      for (int i = 0; i < num_pieces; first += pieces[i++].channels) {
        const Piece<T>& piece = pieces[i];
        add_product(hidden, piece.channels, work, piece.points, piece.stride, grads + first, shape.in);
        if (piece.grads) {
          product<true>(piece.channels, hidden, parameters + first, shape.in, work, kHeld, piece.grads);
        }
      }
    }
    if (shape.position == 0) return;
    add_row_sums(work, hidden, grads + shape.embed_bias());
    add_product(hidden, shape.position, work, position_points, padded(shape.position), grads, shape.position);
    product<true>(shape.position, hidden, parameters, shape.position, work, kZero, grad_position);
  }

 private:
  int64_t kind;
  T beta;
  // The names of the comment above; `more` and `by_point` are scratch, `work` is h, or the gradient by u.
  T *u, *slope, *work, *more, *by_point, *curvature = nullptr, *t, *d, *grad_z;

  T* rows_of(T* rows, int64_t layer) const { return rows + layer * shape.hidden * kTile; }

  static constexpr Start<T> kHeld{true, nullptr}, kZero{false, nullptr};

  // sums (rows of a tile) = start + matrix @ tile, or its transpose; `stride` from row to row of the matrix.
  template <bool kTransposed>
  static void product(int64_t rows, int64_t depth, const T* matrix, int64_t stride, const T* tile,
                      const Start<T>& start, T* sums) {
    const Factor<T> factor{matrix, kTransposed ? 1 : stride, kTransposed ? stride : 1};
    multiply(rows, kTile, depth, factor, tile, kTile, start, sums, kTile);
  }

  // grads (rows, columns) += tile @ points, summed over the points of the tile.
  static void add_product(int64_t rows, int64_t columns, const T* tile, const T* points, int64_t stride,
                          T* grads, int64_t grads_row) {
    multiply(rows, columns, kTile, {tile, kTile, 1}, points, stride, kHeld, grads, grads_row);
  }

  // grads (width, hidden) += tile @ other^T.
  void add_outer(const T* tile, int64_t width, const T* other, T* grads) {
    transpose(other, kTile, shape.hidden, kTile, by_point, padded(shape.hidden));
    add_product(width, shape.hidden, tile, by_point, padded(shape.hidden), grads, shape.hidden);
  }

  static void times(const T* a, const T* b, int64_t rows, T* to) {
    for (int64_t i = 0; i < rows * kTile; i += kLanes) store<T>(to + i, load(a + i) * load(b + i));
  }

  // to = a * b * c.
  static void bend(const T* a, const T* b, const T* c, int64_t rows, T* to) {
    for (int64_t i = 0; i < rows * kTile; i += kLanes) {
      store<T>(to + i, load(a + i) * load(b + i) * load(c + i));
    }
  }

  static void plus(const T* a, int64_t rows, T* to) {
    for (int64_t i = 0; i < rows * kTile; i += kLanes) store<T>(to + i, load(a + i) + load(to + i));
  }

  static void add_to_rows(const T* numbers, int64_t rows, T* tile) {
    for (int64_t m = 0; m < rows; ++m) {
      for (int b = 0; b < kTile; b += kLanes) {
        store<T>(tile + m * kTile + b, load(tile + m * kTile + b) + fill(numbers[m]));
      }
    }
  }
};

}  // namespace renderpretrain
