// A small network on a tile of points, as injected_mlp_cpu.h has it and says what the letters are. Matrices
// by which the input is added are one tall matrix for all layers: few large products instead of many small
// ones.
#pragma once

#include "injected_mlp.h"
#include "tile_products_cuda.h"

namespace renderpretrain {

// Where a network's rows are. In a pass without a way back a layer's u, what is kept of its z, and its t
// follow each other in one place.
struct MlpPlan {
  MlpShape shape;
  int64_t activation = RP_SOFTPLUS;
  double beta = 1;
  Rows out, u, z, grad_out, grad_position;
  Rows v;                                        // gradients by t, then by u
  Rows to_input, to_position, t, grad_to_input;  // of the gradient of the first output

  MlpPlan() = default;

  // `slopes` where the gradient of the first output is asked for, `backward` where there is a way back.
  MlpPlan(const rp_mlp& mlp, bool slopes, bool backward, Planner* planner)
      : shape(mlp), activation(mlp.activation), beta(mlp.beta) {
    const int64_t rows = shape.layers * shape.hidden;
    u = z = t = planner->rows(rows);
    out = planner->rows(shape.out);
    if (slopes) to_input = planner->rows(shape.in);
    if (slopes) to_position = planner->rows(shape.position);
    if (!backward) return;
    v = planner->rows(rows);
    grad_out = planner->rows(shape.out);
    grad_position = planner->rows(shape.position);
    if (slopes) grad_to_input = planner->rows(shape.in);
    z = planner->rows(rows - shape.hidden);
    if (slopes) t = planner->rows(rows);
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
  // `work` and `more` are scratch, as many rows as a layer.
  __device__ TileMlp(const MlpPlan& plan, const Memory<T>& memory, const T* parameters, T* work, T* more)
      : plan(plan),
        memory(memory),
        parameters(parameters),
        work(work),
        more(more),
        activation{plan.activation, static_cast<T>(plan.beta)},
        position(static_cast<int>(plan.shape.position)),
        hidden(static_cast<int>(plan.shape.hidden)),
        in(static_cast<int>(plan.shape.in)),
        last(static_cast<int>(plan.shape.layers) - 1),
        injects{in, hidden, static_cast<int>(plan.shape.inject(1) - plan.shape.inject(0))} {}

  // The output, and what the functions below need.
  __device__ void forward(const T* places, const Piece<T>* pieces, int num_pieces) {
    T* const u = memory(plan.u);
    const T* inject = parameters + plan.shape.inject(0);
    for (int i = 0; i < num_pieces; ++i) {
      multiply(Product<T>{all(),
                          pieces[i].channels,
                          {inject, injects, false},
                          pieces[i].rows,
                          i ? u : nullptr,
                          i ? nullptr : parameters + plan.shape.inject_bias(0),
                          u});
      inject += pieces[i].channels;
    }
    if (position) {
      const T* const bias = parameters + plan.shape.embed_bias();
      multiply(Product<T>{hidden, position, {parameters, {position}, false}, places, u, bias, u});
    }
    for (int l = 0; l <= last; ++l) {
      const T* const bias = parameters + plan.shape.layer_bias(l);
      T* const to = l == last ? memory(plan.out) : more;
      multiply(Product<T>{width(l), hidden, layer(l, false), u_of(l), nullptr, bias, to});
      if (l == last) break;
      T *const kept = memory(plan.z, l * hidden), *const next = u_of(l + 1), *const z = more;
      for_rows(hidden, [=](int i) { next[i] += activation.value(z[i], kept + i); });
    }
  }

  // to_input and to_position, after forward.
  __device__ void differentiate() {
    const T* const first_output = parameters + plan.shape.layer(last);
    T *const top = t_of(last), *const d = more;
    for_rows(hidden, [=](int i) { top[i] = first_output[i / kRow]; });
    for (int l = last - 1; l >= 0; --l) {
      const T *const kept = memory(plan.z, l * hidden), *const above = t_of(l + 1);
      for_rows(hidden, [=](int i) { d[i] = activation.slope(kept[i]) * above[i]; });
      multiply(Product<T>{hidden, hidden, layer(l, true), d, nullptr, nullptr, t_of(l)});
    }
    const T *const t = memory(plan.t), *const inject = parameters + plan.shape.inject(0);
    multiply(Product<T>{in, all(), {inject, injects, true}, t, nullptr, nullptr, memory(plan.to_input)});
    if (position) back_to_position(t, memory(plan.to_position));
  }

  // From gradients by to_input and to_position to those by the parameters, and to what `backward` adds to
  // those by z: it takes the place of t.
  __device__ void differentiate_backward(const T* by_position, T* grads) {
    const T* const by_input = memory(plan.grad_to_input);
    T* const v = memory(plan.v);
    const int64_t inject = plan.shape.inject(0);
    add_outer(Outer<T>{all(), in, memory(plan.t), by_input, grads + inject, injects});
    if (position) add_outer(Outer<T>{hidden, position, memory(plan.t), by_position, grads, {position}});
    multiply(Product<T>{all(), in, {parameters + inject, injects, false}, by_input, nullptr, nullptr, v});
    if (position) {
      multiply(Product<T>{hidden, position, {parameters, {position}, false}, by_position, v, nullptr, v});
    }
    for (int l = 0; l < last; ++l) {
      const T *const kept = memory(plan.z, l * hidden), *const above = t_of(l + 1), *const found = more;
      T *const d = work, *const grad_z = t_of(l), *const next = v_of(l + 1);
      for_rows(hidden, [=](int i) { d[i] = activation.slope(kept[i]) * above[i]; });
      add_outer(Outer<T>{hidden, hidden, d, v_of(l), grads + plan.shape.layer(l), {hidden}});
      multiply(Product<T>{hidden, hidden, layer(l, false), v_of(l), nullptr, nullptr, more});
      for_rows(hidden, [=](int i) {
        grad_z[i] = activation.curvature(kept[i]) * above[i] * found[i];
        next[i] = fma(activation.slope(kept[i]), found[i], next[i]);
      });
    }
    add_row_sums(v_of(last), hidden, grads + plan.shape.layer(last));
    __syncthreads();  // other threads add to the same numbers on the way back
  }

  // From grad_out, and `second` after differentiate_backward, to the gradients by pieces, parameters and
  // grad_position.
  __device__ void backward(const T* places, const Piece<T>* pieces, int num_pieces, bool second, T* grads) {
    for (int l = last; l >= 0; --l) {
      T* const above = l == last ? memory(plan.grad_out) : more;
      if (l < last) {
        const T *const kept = memory(plan.z, l * hidden), *const grad = v_of(l + 1);
        const T* const also = second ? t_of(l) : nullptr;
        for_rows(hidden,
                 [=](int i) { above[i] = fma(activation.slope(kept[i]), grad[i], also ? also[i] : T(0)); });
      }
      add_row_sums(above, width(l), grads + plan.shape.layer_bias(l));
      add_outer(Outer<T>{width(l), hidden, above, u_of(l), grads + plan.shape.layer(l), {hidden}});
      multiply(Product<T>{hidden, width(l), layer(l, true), above, nullptr, nullptr, v_of(l)});
    }
    const T* const v = memory(plan.v);
    add_row_sums(v, all(), grads + plan.shape.inject_bias(0), Blocks{1, hidden, injects.step});
    int64_t inject = plan.shape.inject(0);
    for (int i = 0; i < num_pieces; ++i) {
      const Piece<T>& piece = pieces[i];
      add_outer(Outer<T>{all(), piece.channels, v, piece.rows, grads + inject, injects});
      if (piece.grads) {
        const Weights<T> weights{parameters + inject, injects, true};
        multiply(Product<T>{piece.channels, all(), weights, v, piece.grads, nullptr, piece.grads});
      }
      inject += piece.channels;
    }
    if (position == 0) return;
    add_row_sums(v, hidden, grads + plan.shape.embed_bias());
    add_outer(Outer<T>{hidden, position, v, places, grads, {position}});
    back_to_position(v, memory(plan.grad_position));
  }

 private:
  const MlpPlan& plan;
  const Memory<T>& memory;
  const T* parameters;
  T *work, *more;
  Activation<T> activation;
  int position, hidden, in, last;
  Blocks injects;  // rows of the matrices of all layers by which the input is added

  __device__ int all() const { return (last + 1) * hidden; }
  __device__ int width(int layer) const { return static_cast<int>(plan.shape.width(layer)); }
  __device__ T* u_of(int layer) const { return memory(plan.u, layer * hidden); }
  __device__ T* v_of(int layer) const { return memory(plan.v, layer * hidden); }
  __device__ T* t_of(int layer) const { return memory(plan.t, layer * hidden); }

  __device__ Weights<T> layer(int index, bool transposed) const {
    return {parameters + plan.shape.layer(index), {hidden}, transposed};
  }

  __device__ void back_to_position(const T* rows, T* to) const {
    multiply(Product<T>{position, hidden, {parameters, {position}, true}, rows, nullptr, nullptr, to});
  }
};

}  // namespace renderpretrain
