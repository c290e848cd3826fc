// A small network on many points in tiles: its inputs are read where they lie, and on the way back it is run
// again. Points belong to fixed groups, each with its own sums for the parameters, so that results do not
// depend on the number of threads.
#include "injected_mlp_cpu.h"

using namespace renderpretrain;

namespace {

constexpr int64_t kGroups = 32;
constexpr int64_t kTilesAtOnce = 4;

template <typename T>
struct Network {
  rp_mlp_inputs sizes;
  const T* parameters;
  const T* positions;
  const T* inputs[RP_MOST_INPUTS];
  const bool* valid;

  int64_t num_tiles() const { return (sizes.num_points + kTile - 1) / kTile; }
};

// Gradients: of the output, and what is asked for.
template <typename T>
struct Gradients {
  const T* out;
  T *positions, *inputs[RP_MOST_INPUTS];
};

template <typename T>
class Tile {
 public:
  Tile(const Network<T>& network, Arena<T>* arena)
      : network(network),
        sizes(network.sizes),
        mlp(sizes.mlp, false, arena),
        position(arena->rows(mlp.shape.position)),
        position_points(arena->numbers(padded(mlp.shape.position) * kTile)) {
    for (int i = 0; i < sizes.num_inputs; ++i) {
      const int64_t width = sizes.channels[i];
      rows[i] = arena->rows(width);
      points[i] = arena->numbers(padded(width) * kTile);
      grads[i] = arena->rows(width);
    }
  }

  // Runs the network on the next points that count from [*next, end), and computes what `backward` needs if
  // it follows; false if there is none.
  template <typename Skip>
  bool forward(int64_t* next, int64_t end, bool back, Skip&& skip) {
    if (!chosen.choose(network.valid, 0, next, end, skip)) return false;
    const int64_t places = mlp.shape.position;
    if (places) {
      chosen.gather(network.positions, places, 1, position_points);
      transpose(position_points, padded(places), kTile, places, position, kTile);
    }
    for (int i = 0; i < sizes.num_inputs; ++i) {
      const int64_t width = sizes.channels[i];
      chosen.gather(network.inputs[i], width, sizes.samples[i], points[i]);
      transpose(points[i], padded(width), kTile, width, rows[i], kTile);
      pieces[i] = {width, rows[i], points[i], padded(width), nullptr};
    }
    mlp.forward(network.parameters, position, pieces, sizes.num_inputs, back);
    if (sizes.sigmoid) squash(mlp.shape.out, mlp.out);
    return true;
  }

  void write(T* out) const { chosen.put(mlp.out, mlp.shape.out, out); }

  // After forward: adds to the gradients of the parameters, writes those by positions and inputs.
  void backward(const Gradients<T>& of, T* grad_parameters) {
    chosen.take(of.out, mlp.shape.out, mlp.grad_out);
    if (sizes.sigmoid) squash_backward(mlp.shape.out, mlp.out, mlp.grad_out);
    for (int i = 0; i < sizes.num_inputs; ++i) {
      pieces[i].grads = of.inputs[i] ? grads[i] : nullptr;
      if (of.inputs[i]) clear_rows(sizes.channels[i], grads[i]);
    }
    mlp.backward(network.parameters, position_points, pieces, sizes.num_inputs, false, grad_parameters);
    if (of.positions) chosen.put(mlp.grad_position, mlp.shape.position, of.positions);
    for (int i = 0; i < sizes.num_inputs; ++i) chosen.put(grads[i], sizes.channels[i], of.inputs[i]);
  }

 private:
  const Network<T>& network;
  const rp_mlp_inputs& sizes;
  TilePoints chosen;
  TileMlp<T> mlp;
  T *position, *position_points;
  T *rows[RP_MOST_INPUTS], *points[RP_MOST_INPUTS], *grads[RP_MOST_INPUTS];
  Piece<T> pieces[RP_MOST_INPUTS];
};

template <typename T>
int64_t tile_numbers(const Network<T>& network) {
  Arena<T> count{nullptr};
  Tile<T>(network, &count);
  return count.used;
}

template <typename T>
int64_t scratch_numbers(const Network<T>& network, bool backward, int64_t workers) {
  const int64_t sums = backward ? kGroups * padded(MlpShape(network.sizes.mlp).size()) : 0;
  return workers * tile_numbers(network) + sums;
}

template <typename T>
void run_forward(const Network<T>& network, T* scratch, int64_t workers, T* out) {
  const int64_t width = network.sizes.mlp.out,
                ranges = (network.num_tiles() + kTilesAtOnce - 1) / kTilesAtOnce;
  const auto make = [&](Arena<T>* arena) { return Tile<T>(network, arena); };
  share_out(ranges, workers, tile_numbers(network), scratch, make, [&](Tile<T>& tile, int64_t range) {
    int64_t next = range * kTilesAtOnce * kTile;
    const int64_t end = std::min(next + kTilesAtOnce * kTile, network.sizes.num_points);
    while (tile.forward(&next, end, false,
                        [&](int64_t index) { std::fill_n(out + index * width, width, T{}); })) {
      tile.write(out);
    }
  });
}

template <typename T>
void run_backward(const Network<T>& network, const Gradients<T>& of, T* scratch, int64_t workers,
                  T* grad_parameters) {
  const int64_t size = MlpShape(network.sizes.mlp).size(), width = padded(size);
  T *const sums = scratch, *const tiles = scratch + kGroups * width;
  std::fill_n(sums, kGroups * width, T{});
  const auto make = [&](Arena<T>* arena) { return Tile<T>(network, arena); };
  share_out(kGroups, workers, tile_numbers(network), tiles, make, [&](Tile<T>& tile, int64_t group) {
    int64_t next = group * network.num_tiles() / kGroups * kTile;
    const int64_t last = (group + 1) * network.num_tiles() / kGroups * kTile;
    const int64_t end = std::min(last, network.sizes.num_points);
    while (tile.forward(&next, end, true, [](int64_t) {})) tile.backward(of, sums + group * width);
  });
  for (int64_t i = 0; i < size; ++i) {
    T total{};
    for (int64_t g = 0; g < kGroups; ++g) total += sums[g * width + i];
    grad_parameters[i] = total;
  }
}

template <typename T>
Network<T> network_of(const rp_mlp_inputs& sizes, const void* parameters, const void* positions,
                      const bool* valid, const void* const* inputs) {
  Network<T> network{sizes, static_cast<const T*>(parameters), static_cast<const T*>(positions), {}, valid};
  for (int i = 0; i < RP_MOST_INPUTS; ++i) network.inputs[i] = static_cast<const T*>(inputs[i]);
  return network;
}

int64_t num_workers(int64_t num_threads) { return std::max<int64_t>(1, num_threads); }

}  // namespace

int rp_fused_mlp_scratch_cpu(int64_t, void* num_scratch, const rp_mlp_inputs* sizes, int64_t backward,
                             int64_t num_threads) {
  const Network<float> network{*sizes, nullptr, nullptr, {}, nullptr};
  *static_cast<int64_t*>(num_scratch) = scratch_numbers(network, backward != 0, num_workers(num_threads));
  return RP_OK;
}

int rp_fused_mlp_cpu(int64_t type, const void* parameters, const void* positions, const bool* valid,
                     const void* input_0, const void* input_1, const void* input_2, const void* input_3,
                     const rp_mlp_inputs* sizes, void* scratch, int64_t num_scratch, void* out,
                     int64_t num_threads) {
  const void* const inputs[] = {input_0, input_1, input_2, input_3};
  return with_type(type, [&](auto zero) {
    using T = decltype(zero);
    const Network<T> network = network_of<T>(*sizes, parameters, positions, valid, inputs);
    const int64_t workers = num_workers(num_threads);
    if (scratch_numbers(network, false, workers) > num_scratch) return RP_TOO_LARGE;
    run_forward(network, static_cast<T*>(scratch), workers, static_cast<T*>(out));
    return RP_OK;
  });
}

int rp_fused_mlp_backward_cpu(int64_t type, const void* parameters, const void* positions, const bool* valid,
                              const void* input_0, const void* input_1, const void* input_2,
                              const void* input_3, const rp_mlp_inputs* sizes, void* scratch,
                              int64_t num_scratch, const void* grad_out, void* grad_positions,
                              void* grad_input_0, void* grad_input_1, void* grad_input_2, void* grad_input_3,
                              void* grad_parameters, int64_t num_threads) {
  const void* const inputs[] = {input_0, input_1, input_2, input_3};
  return with_type(type, [&](auto zero) {
    using T = decltype(zero);
    const Network<T> network = network_of<T>(*sizes, parameters, positions, valid, inputs);
    const int64_t workers = num_workers(num_threads);
    if (scratch_numbers(network, true, workers) > num_scratch) return RP_TOO_LARGE;
    const auto as = [](void* pointer) { return static_cast<T*>(pointer); };
    const Gradients<T> of{static_cast<const T*>(grad_out),
                          as(grad_positions),
                          {as(grad_input_0), as(grad_input_1), as(grad_input_2), as(grad_input_3)}};
    run_backward(network, of, as(scratch), workers, as(grad_parameters));
    return RP_OK;
  });
}
