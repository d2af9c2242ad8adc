#include "supra/inference/cuda_step_graph.h"

#include <cstdlib>
#include <string_view>

namespace supra {

bool StepGraph::wanted() {
  const char* wish = getenv("SUPRA_GRAPH");
  CHECK(!wish || std::string_view(wish) == "off", "SUPRA_GRAPH=%s: only \"off\" is known", wish);
  return !wish;
}

std::string StepGraph::why_not(const Decoder& decoder) {
  if (decoder.device() != Device::cuda) return "the model is not on a GPU";
  if (decoder.config().learned_positions) return "the model has learned positions";
  for (int64_t i = 0; i < decoder.layers(); i++) {
    if (decoder.mixer(i).kind() == MixerKind::softmax) {
      return format("layer %ld has a cache that grows", static_cast<long>(i));
    }
  }
  return "";
}

Tensor StepGraph::run(State& state) {
  const RopeTables::Scope scope(angles_);
  return decoder_.logits(decoder_.hidden(ids_, &state)).value().view({batch_, decoder_.config().vocab});
}

// The graph's tensors as a state holds them. Tensors that no state holds any more are unique.
void StepGraph::lend(State& state) const {
  for (size_t i = 0; i < parts_.size(); i++) {
    for (size_t k = 0; k < parts_[i].size(); k++) state.layers[i].parts[k] = Var(parts_[i][k]);
  }
}

// The state's numbers go to where the graph finds them, unless they are there. Where another state still holds the
// graph's tensors, it keeps them; the graph takes new ones and is recorded again.
void StepGraph::adopt(State& state) {
  bool moved = false;
  for (size_t i = 0; i < parts_.size(); i++) {
    for (size_t k = 0; k < parts_[i].size(); k++) {
      const Tensor& given = state.layers[i].parts[k].value();
      Tensor& own = parts_[i][k];
      if (own.raw(Device::cuda) == given.raw(Device::cuda)) continue;
      if (!own.unique()) own = empty_like(own), graph_ = nullptr;
      own.copy_from(given);
      moved = true;
    }
  }
  if (moved) lend(state);
}

void StepGraph::record() {
  State past = {std::vector<int64_t>(batch_), std::vector<LayerState>(parts_.size())};
  for (size_t i = 0; i < parts_.size(); i++) past.layers[i].parts.resize(parts_[i].size());
  lend(past);
  try {
    graph_ = std::make_unique<cuda::Graph>([&] { logits_ = run(past); });
  } catch (const Error& error) {
    trouble_ = error.what();
  }
}

Tensor StepGraph::step(std::span<const int32_t> ids, State& state) {
  const Tensor given = Tensor::of(std::vector<int32_t>(ids.begin(), ids.end()), {batch_, 1});
  for (const int32_t id : ids) {
    CHECK(id >= 0 && id < decoder_.config().vocab, "session: id %d, the vocabulary has %ld entries", id,
          static_cast<long>(decoder_.config().vocab));
  }
  const bool first = !ids_.defined();
  if (first) {
    ids_ = given.to(Device::cuda);
    for (const LayerState& layer : state.layers) {
      std::vector<Tensor>& parts = parts_.emplace_back();
      for (const Var& part : layer.parts) parts.push_back(part.value());
    }
  } else {
    ids_.copy_from(given);
    angles_.move_to(state.positions);
    adopt(state);
    if (!graph_ && trouble_.empty()) record();
  }
  if (!graph_) return run(state);
  graph_->launch();
  for (int64_t& position : state.positions) position++;
  return logits_;
}

}  // namespace supra
