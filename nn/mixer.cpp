#include "nn/mixer.h"

namespace supra {

State State::clone() const {
  State copy{positions, {}};
  for (const LayerState& layer : layers) {
    LayerState& into = copy.layers.emplace_back();
    for (const Var& part : layer.parts) into.parts.emplace_back(part.value().clone());
  }
  return copy;
}

State State::select(const std::vector<int64_t>& rows) const {
  State chosen;
  for (int64_t b : rows) {
    CHECK(b >= 0 && b < batch(), "state: row %ld of %ld", static_cast<long>(b), static_cast<long>(batch()));
    chosen.positions.push_back(positions[b]);
  }
  for (const LayerState& layer : layers) {
    LayerState& into = chosen.layers.emplace_back();
    for (const Var& part : layer.parts) {
      Shape shape = part.shape();
      shape[0] = static_cast<int64_t>(rows.size());
      const Tensor copy = Tensor::empty(shape, part.value().dtype(), part.value().device());
      for (int64_t i = 0; i < shape[0]; i++) copy.rows(i, i + 1).copy_from(part.value().rows(rows[i], rows[i] + 1));
      into.parts.emplace_back(copy);
    }
  }
  return chosen;
}

void State::reset_row(int64_t b) {
  CHECK(b >= 0 && b < batch(), "state: row %ld of %ld", static_cast<long>(b), static_cast<long>(batch()));
  positions[b] = 0;
  for (const LayerState& layer : layers) {
    for (const Var& part : layer.parts) part.value().rows(b, b + 1).fill(0);
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
