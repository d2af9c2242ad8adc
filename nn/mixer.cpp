#include "nn/mixer.h"

#include <cstring>

namespace supra {

State State::clone() const {
  State copy{positions, {}};
  for (const LayerState& layer : layers) {
    LayerState& into = copy.layers.emplace_back();
    for (const Var& part : layer.parts) into.parts.emplace_back(part.value().clone());
  }
  return copy;
}

void State::reset_row(int64_t b) {
  CHECK(b >= 0 && b < batch(), "state: row %ld of %ld", static_cast<long>(b), static_cast<long>(batch()));
  positions[b] = 0;
  for (const LayerState& layer : layers) {
    for (const Var& part : layer.parts) {
      const Tensor row = part.value().rows(b, b + 1);
      memset(row.raw(), 0, row.bytes());
    }
  }
}

State State::detach() const {
  State copy{positions, {}};
  for (const LayerState& layer : layers) {
    LayerState& into = copy.layers.emplace_back();
    for (const Var& part : layer.parts) into.parts.push_back(part.detach());
  }
  return copy;
}

}  // namespace supra
