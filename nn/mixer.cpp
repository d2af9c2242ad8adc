#include "nn/mixer.h"

#include <utility>

namespace supra {

// A state whose parts are f(part) of those of another one.
template <class F>
static State with_parts(std::vector<int64_t> positions, const std::vector<LayerState>& layers, F f) {
  State made{std::move(positions), {}};
  for (const LayerState& layer : layers) {
    LayerState& into = made.layers.emplace_back();
    for (const Var& part : layer.parts) into.parts.push_back(f(part));
  }
  return made;
}

State State::clone() const {
  return with_parts(positions, layers, [](const Var& part) { return Var(part.value().clone()); });
}

State State::detach() const {
  return with_parts(positions, layers, [](const Var& part) { return part.detach(); });
}

State State::select(const std::vector<int64_t>& rows) const {
  std::vector<int64_t> chosen;
  for (int64_t b : rows) {
    CHECK(b >= 0 && b < batch(), "state: row %ld of %ld", static_cast<long>(b), static_cast<long>(batch()));
    chosen.push_back(positions[b]);
  }
  return with_parts(std::move(chosen), layers, [&](const Var& part) {
    Shape shape = part.shape();
    shape[0] = static_cast<int64_t>(rows.size());
    const Tensor copy = Tensor::empty(shape, part.value().dtype(), part.value().device());
    for (int64_t i = 0; i < shape[0]; i++) copy.rows(i, i + 1).copy_from(part.value().rows(rows[i], rows[i] + 1));
    return Var(copy);
  });
}

void State::reset_row(int64_t b) {
  CHECK(b >= 0 && b < batch(), "state: row %ld of %ld", static_cast<long>(b), static_cast<long>(batch()));
  positions[b] = 0;
  for (const LayerState& layer : layers) {
    for (const Var& part : layer.parts) part.value().rows(b, b + 1).fill(0);
  }
}

}  // namespace supra
