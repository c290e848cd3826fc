// A small network on many points in tiles: its inputs are read where they lie, and on the way back it is run
// again.
#include "injected_mlp_cuda.h"
#include "tile_points_cuda.h"

namespace renderpretrain {

// Where a tile's rows are: what each layer touches comes first, for shared memory may not hold all.
struct NetworkPlan {
  Rows more, position, inputs[RP_MOST_INPUTS], grads[RP_MOST_INPUTS];
  MlpPlan mlp;
  int scratch;  // numbers of a block

  NetworkPlan(const rp_mlp_inputs& sizes, bool backward, int shared_rows) {
    Planner planner{shared_rows};
    more = planner.rows(sizes.mlp.hidden);
    mlp = MlpPlan(sizes.mlp, false, backward, &planner);
    position = planner.rows(sizes.mlp.position);
    for (int i = 0; i < sizes.num_inputs; ++i) inputs[i] = planner.rows(sizes.channels[i]);
    for (int i = 0; backward && i < sizes.num_inputs; ++i) grads[i] = planner.rows(sizes.channels[i]);
    scratch = planner.scratch_used;
  }
};

// Rows that fit beside what products take into what a block gets without asking, 48 KiB.
template <typename T>
constexpr int kNetworkRows =
    static_cast<int>((47 * 1024 - sizeof(Waiting) - kStaged * sizeof(T)) / (kRow * sizeof(T)));

template <typename T>
struct Network {
  rp_mlp_inputs sizes;
  NetworkPlan plan;
  int64_t range, num_parameters;  // points of a block
  const T *parameters, *positions, *inputs[RP_MOST_INPUTS];
  const bool* valid;
  T* scratch;

  int64_t num_blocks() const { return (sizes.num_points + range - 1) / range; }
};

// Gradients: of the output, and what is asked for.
template <typename T>
struct NetworkGradients {
  const T* out;
  T *positions, *inputs[RP_MOST_INPUTS];
};

template <typename T>
class NetworkTile {
 public:
  __device__ NetworkTile(const Network<T>& network, Waiting* waiting, T* shared)
      : network(network),
        plan(network.plan),
        chosen(network.valid, network.sizes.num_points, network.range, waiting),
        memory{shared, network.scratch + blockIdx.x * static_cast<int64_t>(plan.scratch)},
        width(static_cast<int>(plan.mlp.shape.out)),
        places(static_cast<int>(plan.mlp.shape.position)),
        mlp(plan.mlp, memory, network.parameters, nullptr, memory(plan.more)) {}

  // Takes the next points that count; false if there is none. The output of the others becomes zero.
  __device__ bool choose(T* zeros) {
    return chosen.choose([=](int64_t first, int some) { chosen.clear(first, some, width, zeros); });
  }

  __device__ void forward() {
    T* const position = memory(plan.position);
    chosen.take(network.positions, places, 1, position);
    Piece<T> pieces[RP_MOST_INPUTS];
    for (int i = 0; i < network.sizes.num_inputs; ++i) {
      pieces[i] = {channels(i), memory(plan.inputs[i]), nullptr};
      chosen.take(network.inputs[i], channels(i), network.sizes.samples[i], memory(plan.inputs[i]));
    }
    mlp.forward(position, pieces, static_cast<int>(network.sizes.num_inputs));
    if (network.sizes.sigmoid) squash(memory(plan.mlp.out), width);
  }

  __device__ void write(T* out) const { chosen.put(memory(plan.mlp.out), width, out); }

  // After forward; `sums` are the block's own for the parameters.
  __device__ void backward(const NetworkGradients<T>& of, T* sums) {
    T* const grad = memory(plan.mlp.grad_out);
    chosen.take(of.out, width, 1, grad);
    if (network.sizes.sigmoid) squash_backward(memory(plan.mlp.out), width, grad);
    Piece<T> pieces[RP_MOST_INPUTS];
    for (int i = 0; i < network.sizes.num_inputs; ++i) {
      T* const grads = memory(plan.grads[i]);
      pieces[i] = {channels(i), memory(plan.inputs[i]), of.inputs[i] ? grads : nullptr};
      if (of.inputs[i]) for_rows(channels(i), [=](int k) { grads[k] = 0; });
    }
    mlp.backward(memory(plan.position), pieces, static_cast<int>(network.sizes.num_inputs), false, sums);
    chosen.put(memory(plan.mlp.grad_position), places, of.positions);
    for (int i = 0; i < network.sizes.num_inputs; ++i) {
      chosen.put(memory(plan.grads[i]), channels(i), of.inputs[i]);
    }
  }

 private:
  const Network<T>& network;
  const NetworkPlan& plan;
  TilePoints chosen;
  const Memory<T> memory;
  int width, places;
  TileMlp<T> mlp;

  __device__ int channels(int i) const { return static_cast<int>(network.sizes.channels[i]); }
};

// Kernels read inputs by their number, for which a thread would copy arguments that may change.
template <typename T>
__global__ void __launch_bounds__(kTileThreads, 4)
    network_kernel(const __grid_constant__ Network<T> network, T* out) {
  using Four = Pack<4, T>;
  __shared__ Waiting waiting[1];
  __shared__ Four rows[kNetworkRows<T> * kRow / 4];
  NetworkTile<T> tile(network, waiting, rows[0].at);
  while (tile.choose(out)) {
    tile.forward();
    tile.write(out);
  }
}

template <typename T>
__global__ void __launch_bounds__(kTileThreads, 4)
    network_backward_kernel(const __grid_constant__ Network<T> network,
                            const __grid_constant__ NetworkGradients<T> of, T* sums) {
  using Four = Pack<4, T>;
  __shared__ Waiting waiting[1];
  __shared__ Four rows[kNetworkRows<T> * kRow / 4];
  T* const own = sums + blockIdx.x * network.num_parameters;
  for (int64_t i = threadIdx.x; i < network.num_parameters; i += kTileThreads) own[i] = 0;
  NetworkTile<T> tile(network, waiting, rows[0].at);
  while (tile.choose(nullptr)) {
    tile.forward();
    tile.backward(of, own);
  }
}

// What both passes read.
struct NetworkInputs {
  const void *parameters, *positions, *inputs[RP_MOST_INPUTS];
  const bool* valid;
  void* scratch;
  int64_t num_scratch;
};

template <typename T>
Network<T> network_of(const rp_mlp_inputs& sizes, bool backward) {
  Network<T> network{sizes, NetworkPlan(sizes, backward, kNetworkRows<T>)};
  network.num_parameters = MlpShape(sizes.mlp).size();
  network.range =
      points_of_block(sizes.num_points, network.plan.scratch + (backward ? network.num_parameters : 0));
  return network;
}

template <typename T>
int64_t scratch_numbers(const Network<T>& network, bool backward) {
  return network.num_blocks() * (network.plan.scratch + (backward ? network.num_parameters : 0));
}

// Calls run(network) with numbers of T; RP_TOO_LARGE where the scratch is too small for it.
template <typename T, typename Run>
int with_network(const rp_mlp_inputs& sizes, bool backward, const NetworkInputs& inputs, Run run) {
  Network<T> network = network_of<T>(sizes, backward);
  if (scratch_numbers(network, backward) > inputs.num_scratch) return RP_TOO_LARGE;
  network.parameters = static_cast<const T*>(inputs.parameters);
  network.positions = static_cast<const T*>(inputs.positions);
  for (int i = 0; i < RP_MOST_INPUTS; ++i) network.inputs[i] = static_cast<const T*>(inputs.inputs[i]);
  network.valid = inputs.valid;
  network.scratch = static_cast<T*>(inputs.scratch);
  return run(network);
}

}  // namespace renderpretrain

using namespace renderpretrain;

int rp_fused_mlp_scratch_cuda(int64_t type, void* num_scratch, const rp_mlp_inputs* sizes, int64_t backward,
                              void*) {
  return with_type(type, [&](auto zero) {
    using T = decltype(zero);
    *static_cast<int64_t*>(num_scratch) =
        scratch_numbers(network_of<T>(*sizes, backward != 0), backward != 0);
    return RP_OK;
  });
}

int rp_fused_mlp_cuda(int64_t type, const void* parameters, const void* positions, const bool* valid,
                      const void* input_0, const void* input_1, const void* input_2, const void* input_3,
                      const rp_mlp_inputs* sizes, void* scratch, int64_t num_scratch, void* out,
                      void* stream) {
  const NetworkInputs inputs{parameters, positions, {input_0, input_1, input_2, input_3},
                             valid,      scratch,   num_scratch};
  return with_type(type, [&](auto zero) {
    using T = decltype(zero);
    return with_network<T>(*sizes, false, inputs, [&](const Network<T>& network) {
      return launch_blocks(network_kernel<T>, network.num_blocks(), kTileThreads, stream, network,
                           static_cast<T*>(out));
    });
  });
}

int rp_fused_mlp_backward_cuda(int64_t type, const void* parameters, const void* positions, const bool* valid,
                               const void* input_0, const void* input_1, const void* input_2,
                               const void* input_3, const rp_mlp_inputs* sizes, void* scratch,
                               int64_t num_scratch, const void* grad_out, void* grad_positions,
                               void* grad_input_0, void* grad_input_1, void* grad_input_2, void* grad_input_3,
                               void* grad_parameters, void* stream) {
  const NetworkInputs inputs{parameters, positions, {input_0, input_1, input_2, input_3},
                             valid,      scratch,   num_scratch};
  return with_type(type, [&](auto zero) {
    using T = decltype(zero);
    const auto as = [](void* pointer) { return static_cast<T*>(pointer); };
    const NetworkGradients<T> of{static_cast<const T*>(grad_out),
                                 as(grad_positions),
                                 {as(grad_input_0), as(grad_input_1), as(grad_input_2), as(grad_input_3)}};
    return with_network<T>(*sizes, true, inputs, [&](const Network<T>& network) {
      const int64_t blocks = network.num_blocks();
      T* const sums = network.scratch + blocks * network.plan.scratch;
      const int code =
          launch_blocks(network_backward_kernel<T>, blocks, kTileThreads, stream, network, of, sums);
      return code != RP_OK ? code
                           : add_sums(sums, blocks, network.num_parameters, as(grad_parameters), stream);
    });
  });
}
