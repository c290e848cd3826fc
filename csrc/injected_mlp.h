// A small network whose input is added before every layer: fields/decoder.py says what it computes. Here is
// where its parameters lie, for both devices.
#pragma once

#include "common/host_device.h"

namespace renderpretrain {

// Parameters lie one behind the other: embed.weight (hidden, position) and its bias, then for every layer
// inject.weight (hidden, in), its bias, layer.weight (width, hidden) and its bias.
struct MlpShape {
  int64_t position, in, hidden, out, layers;

  MlpShape() = default;
  explicit MlpShape(const rp_mlp& mlp)
      : position(mlp.position), in(mlp.in), hidden(mlp.hidden), out(mlp.out), layers(mlp.blocks + 1) {}

  RP_HOST_DEVICE int64_t width(int64_t layer) const { return layer + 1 < layers ? hidden : out; }
  RP_HOST_DEVICE int64_t embed_bias() const { return hidden * position; }
  RP_HOST_DEVICE int64_t inject(int64_t layer) const {
    const int64_t embed = position ? hidden * (position + 1) : 0;
    return embed + layer * hidden * (in + 1 + hidden + 1);
  }
  RP_HOST_DEVICE int64_t inject_bias(int64_t layer) const { return inject(layer) + hidden * in; }
  RP_HOST_DEVICE int64_t layer(int64_t index) const { return inject_bias(index) + hidden; }
  RP_HOST_DEVICE int64_t layer_bias(int64_t index) const { return layer(index) + width(index) * hidden; }
  RP_HOST_DEVICE int64_t size() const { return layer_bias(layers - 1) + out; }
};

}  // namespace renderpretrain
