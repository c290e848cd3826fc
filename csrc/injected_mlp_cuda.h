// A small network on a tile of points, as injected_mlp_cpu.h has it and says what the letters are. What the
// way back needs of a layer is kept, or, in a pass that has none, overwritten by the next.
#pragma once

#include "injected_mlp.h"
#include "tile_products_cuda.h"

namespace renderpretrain {

// Where a network's rows are, and how many rows further the next layer's.
struct MlpPlan {
  MlpShape shape;
  int64_t activation = RP_SOFTPLUS;
  double beta = 1;
  Rows out, u, z, grad_out, grad_position;
  Rows to_input, to_position, t, grad_to_input;  // of the gradient of the first output
  int next_u = 0, next_z = 0, next_t = 0;

  MlpPlan() = default;

  // `slopes` where the gradient of the first output is asked for, `backward` where there is a way back.
  MlpPlan(const rp_mlp& mlp, bool slopes, bool backward, Planner* planner)
      : shape(mlp), activation(mlp.activation), beta(mlp.beta) {
    const int64_t hidden = shape.hidden, inner = shape.layers - 1;
    next_u = next_t = backward ? static_cast<int>(hidden) : 0;
    next_z = backward || slopes ? static_cast<int>(hidden) : 0;
    out = planner->rows(shape.out);
    if (backward) grad_out = planner->rows(shape.out);
    if (backward) grad_position = planner->rows(shape.position);
    if (slopes) to_input = planner->rows(shape.in);
    if (slopes) to_position = planner->rows(shape.position);
    if (slopes && backward) grad_to_input = planner->rows(shape.in);
    u = planner->rows(backward ? shape.layers * hidden : hidden);
    z = planner->rows(next_z ? inner * hidden : hidden);
    if (slopes) t = planner->rows(backward ? shape.layers * hidden : hidden);
  }
};

// Some of a network's inputs, and what is added to their gradients, unless null.
template <typename T>
struct Piece {
  int channels;
  const T* rows;
  T* grads;
};

template <typename T>
class TileMlp {
 public:
  // `work` and `more` are scratch, as many rows as the network's layers have.
  __device__ TileMlp(const MlpPlan& plan, const Memory<T>& memory, const T* parameters, T* work, T* more,
                     T* staged)
      : plan(plan),
        memory(memory),
        parameters(parameters),
        work(work),
        more(more),
        staged(staged),
        activation{plan.activation, static_cast<T>(plan.beta)},
        position(static_cast<int>(plan.shape.position)),
        hidden(static_cast<int>(plan.shape.hidden)),
        in(static_cast<int>(plan.shape.in)),
        last(static_cast<int>(plan.shape.layers) - 1) {}

  // The output, and what the functions below need.
  __device__ void forward(const T* places, const Piece<T>* pieces, int num_pieces) {
    for (int l = 0; l <= last; ++l) {
      T* const u = u_of(l);
      const T* before = l > 0 ? work : nullptr;
      if (l == 0 && position) {
        product(hidden, position, 0, position, places, {nullptr, parameters + plan.shape.embed_bias()}, u);
        before = u;
      }
      const T* bias = parameters + plan.shape.inject_bias(l);
      int64_t inject = plan.shape.inject(l);
      for (int i = 0; i < num_pieces; ++i) {
        product(hidden, pieces[i].channels, inject, in, pieces[i].rows, {before, bias}, u);
        inject += pieces[i].channels;
        before = u;
        bias = nullptr;
      }
      T* const z = l == last ? memory(plan.out) : z_of(l);
      product(width(l), hidden, plan.shape.layer(l), hidden, u,
              {nullptr, parameters + plan.shape.layer_bias(l)}, z);
      if (l < last) for_rows(hidden, [=](int i) { work[i] = activation.value(z[i]); });
    }
  }

  // to_input and to_position, after forward.
  __device__ void differentiate() {
    const T* const first_output = parameters + plan.shape.layer(last);
    T* const to_input = memory(plan.to_input);
    T* t = t_of(last);
    for_rows(hidden, [=](int i) { t[i] = first_output[i / kRow]; });
    for (int l = last;; --l) {
      back_product(in, hidden, plan.shape.inject(l), in, t, l == last ? nullptr : to_input, to_input);
      if (l == 0) break;
      const T *const z = z_of(l - 1), *const above = t;
      for_rows(hidden, [=](int i) { work[i] = activation.slope(z[i]) * above[i]; });
      t = t_of(l - 1);
      back_product(hidden, hidden, plan.shape.layer(l - 1), hidden, work, nullptr, t);
    }
    if (position) back_product(position, hidden, 0, position, t, nullptr, memory(plan.to_position));
  }

  // From gradients by to_input and to_position to those by the parameters, and to what `backward` adds to
  // those by z: it takes the place of t.
  __device__ void differentiate_backward(const T* by_position, T* grads) {
    const T* const by_input = memory(plan.grad_to_input);
    if (position) {
      product(hidden, position, 0, position, by_position, {nullptr, nullptr}, work);
      add_outer(hidden, t_of(0), position, by_position, grads, position);
    }
    for (int l = 0; l <= last; ++l) {
      T* const t = t_of(l);
      product(hidden, in, plan.shape.inject(l), in, by_input, {l > 0 || position ? work : nullptr, nullptr},
              work);
      add_outer(hidden, t, in, by_input, grads + plan.shape.inject(l), in);
      if (l == last) break;
      const T *const z = z_of(l), *const above = t_of(l + 1);
      for_rows(hidden, [=](int i) { more[i] = activation.slope(z[i]) * above[i]; });
      add_outer(hidden, more, hidden, work, grads + plan.shape.layer(l), hidden);
      product(hidden, hidden, plan.shape.layer(l), hidden, work, {nullptr, nullptr}, more);
      for_rows(hidden, [=](int i) {
        t[i] = activation.curvature(z[i]) * above[i] * more[i];
        work[i] = activation.slope(z[i]) * more[i];
      });
    }
    add_row_sums(work, hidden, grads + plan.shape.layer(last));
  }

  // From grad_out, and `second` after differentiate_backward, to the gradients by pieces, parameters and
  // grad_position.
  __device__ void backward(const T* places, const Piece<T>* pieces, int num_pieces, bool second, T* grads) {
    for (int l = last; l >= 0; --l) {
      T* const above = l == last ? memory(plan.grad_out) : more;
      if (l < last) {
        const T *const z = z_of(l), *const also = second ? t_of(l) : nullptr;
        for_rows(hidden,
                 [=](int i) { more[i] = fma(activation.slope(z[i]), work[i], also ? also[i] : T(0)); });
      }
      add_row_sums(above, width(l), grads + plan.shape.layer_bias(l));
      add_outer(width(l), above, hidden, u_of(l), grads + plan.shape.layer(l), hidden);
      back_product(hidden, width(l), plan.shape.layer(l), hidden, above, nullptr, work);
      add_row_sums(work, hidden, grads + plan.shape.inject_bias(l));
      int64_t inject = plan.shape.inject(l);
      for (int i = 0; i < num_pieces; ++i) {
        const Piece<T>& piece = pieces[i];
        add_outer(hidden, work, piece.channels, piece.rows, grads + inject, in);
        if (piece.grads) back_product(piece.channels, hidden, inject, in, work, piece.grads, piece.grads);
        inject += piece.channels;
      }
    }
    if (position == 0) return;
    add_row_sums(work, hidden, grads + plan.shape.embed_bias());
    add_outer(hidden, work, position, places, grads, position);
    back_product(position, hidden, 0, position, work, nullptr, memory(plan.grad_position));
  }

 private:
  const MlpPlan& plan;
  const Memory<T>& memory;
  const T* parameters;
  T *work, *more, *staged;  // work is h, or the gradient by u
  Activation<T> activation;
  int position, hidden, in, last;

  __device__ int width(int layer) const { return static_cast<int>(plan.shape.width(layer)); }
  __device__ T* u_of(int layer) const { return memory(plan.u, layer * plan.next_u); }
  __device__ T* z_of(int layer) const { return memory(plan.z, layer * plan.next_z); }
  __device__ T* t_of(int layer) const { return memory(plan.t, layer * plan.next_t); }

  // to = begin + the weights at `first`, (rows, depth), @ tile.
  __device__ void product(int rows, int depth, int64_t first, int stride, const T* tile, Begin<T> begin,
                          T* to) const {
    multiply(Product<T>{rows, depth, {parameters + first, stride, false}, tile, begin, to, staged});
  }

  // to = begin + the transpose of the weights at `first`, (depth, rows), @ tile.
  __device__ void back_product(int rows, int depth, int64_t first, int stride, const T* tile, const T* begin,
                               T* to) const {
    multiply(Product<T>{rows, depth, {parameters + first, stride, true}, tile, {begin, nullptr}, to, staged});
  }
};

}  // namespace renderpretrain
