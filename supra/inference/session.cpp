#include "supra/inference/session.h"

#include <algorithm>

#include "supra/formats/state_file.h"

namespace supra {

// The tokens of a prompt that the model reads at once; a bound for the memory of long prompts.
static constexpr int64_t kPrefillTokens = 512;

Session::Session(const Decoder& decoder, int64_t batch)
    : decoder_(decoder), state_(decoder.init_state(batch)), graphs_(StepGraph::wanted()) {}

Session::Session(const Model& model, int64_t batch) : Session(*model.decoder, batch) { model_ = model.fingerprint; }

Session::Session(const Decoder& decoder, State state) : decoder_(decoder), state_(std::move(state)) {}

void Session::reset() { set_state(decoder_.init_state(state_.batch())); }

void Session::set_state(State state) {
  state_ = std::move(state);
  logits_ = {};
}

size_t Session::state_bytes() const {
  size_t bytes = 0;
  for (int64_t position : state_.positions) bytes += decoder_.state_bytes(position);
  return bytes;
}

Tensor Session::feed(const std::vector<std::vector<int32_t>>& ids, const Progress& progress) {
  NoGrad off;
  const int64_t B = state_.batch();
  CHECK(static_cast<int64_t>(ids.size()) == B, "session: %zu rows of ids for %ld sequences", ids.size(), static_cast<long>(B));
  int64_t longest = 0;
  for (const auto& row : ids) longest = std::max(longest, static_cast<int64_t>(row.size()));
  if (!logits_.defined()) logits_ = Tensor::zeros({B, decoder_.config().vocab}, Dtype::f32, decoder_.device());

  // rotary frequencies may depend on the length of the text: then the whole text must be computed at once
  const int64_t trained = decoder_.config().rope.trained;
  const bool fresh = std::all_of(state_.positions.begin(), state_.positions.end(), [](int64_t p) { return p == 0; });
  const int64_t piece = trained > 0 && fresh && longest > trained ? longest : kPrefillTokens;
  for (int64_t at = 0; at < longest; at += piece) {
    const int64_t T = std::min(piece, longest - at);
    Tensor tokens = Tensor::zeros({B, T}, Dtype::i32);
    // `ends`: the hidden rows that need logits, the last of each prompt. `from`: for each sequence the row of its logits among the
    // B old ones, followed by the new ones.
    std::vector<int64_t> lengths(B), ends, from(B);
    for (int64_t b = 0; b < B; b++) {
      const int64_t size = static_cast<int64_t>(ids[b].size());
      lengths[b] = std::clamp<int64_t>(size - at, 0, T);
      std::copy_n(ids[b].begin() + std::min(at, size), lengths[b], tokens.data<int32_t>() + b * T);
      const bool is_last = lengths[b] > 0 && at + lengths[b] == size;
      from[b] = is_last ? B + static_cast<int64_t>(ends.size()) : b;
      if (is_last) ends.push_back(b * T + lengths[b] - 1);
    }
    const bool ragged = std::count(lengths.begin(), lengths.end(), T) < B;
    const auto on_mixer = [&](int64_t layer, const Var&, const Var&, const Steps&) {
      const double layers = static_cast<double>(decoder_.layers()), part = static_cast<double>(T * (layer + 1)) / layers;
      if (progress) progress((static_cast<double>(at) + part) / static_cast<double>(longest));
    };
    const Var hidden = decoder_.hidden(tokens, &state_, ragged ? lengths : std::vector<int64_t>(), {}, on_mixer);
    if (ends.empty()) continue;
    const Var fresh = decoder_.logits(take_rows({reshape(hidden, {B * T, -1})}, ends));
    logits_ = take_rows({Var(logits_), cast(fresh, logits_.dtype())}, from).value();
  }
  return logits();
}

Tensor Session::feed(std::span<const int32_t> ids, const Progress& progress) {
  return feed(std::vector<std::vector<int32_t>>{{ids.begin(), ids.end()}}, progress);
}

Tensor Session::step(std::span<const int32_t> ids) {
  advance(ids);
  return logits();
}

void Session::advance(std::span<const int32_t> ids) {
  NoGrad off;
  const int64_t B = state_.batch();
  if (graphs_ && StepGraph::why_not(decoder_).empty()) {
    if (!graph_ || graph_->batch() != B) graph_ = std::make_unique<StepGraph>(decoder_, B);
    logits_ = graph_->step(ids, state_);
    return;
  }
  const Tensor tokens = Tensor::of(std::vector<int32_t>(ids.begin(), ids.end()), {B, 1});
  logits_ = decoder_.logits(decoder_.hidden(tokens, &state_)).value().view({B, decoder_.config().vocab});
}

Tensor Session::logits() const {
  return logits_.defined() ? logits_.to(Device::cpu).to(Dtype::f32) : logits_;
}

std::string Session::why_no_graph() const {
  if (!graphs_) return "graphs are switched off";
  const std::string reason = StepGraph::why_not(decoder_);
  return reason.empty() && graph_ ? graph_->trouble() : reason;
}

void Session::save(const Path& path) const { write_state_file(path, decoder_, state_, logits(), model_); }

std::string Session::load(const Path& path) {
  SavedState saved = read_state_file(path, decoder_, state_.batch(), model_);
  logits_ = saved.logits.defined() ? saved.logits.to(decoder_.device()) : Tensor();
  state_ = std::move(saved.state);
  return saved.note;
}

}  // namespace supra
