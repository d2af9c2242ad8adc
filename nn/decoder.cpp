#include "nn/decoder.h"

#include <cmath>

#include "kernels/cuts.h"

namespace supra {

Decoder::Decoder(const Config& c, const MakeMixer& make_mixer) : config_(c) {
  embedding_ = make_parameter({c.vocab, c.width});
  if (c.learned_positions) positions_ = make_parameter({c.context, c.width});
  if (c.post_embed_norm) post_embed_norm_ = Norm(c.width, c.norm);
  for (int64_t i = 0; i < c.layers; i++) {
    const Norm none, norm(c.width, c.norm), *const post = c.residual == Residual::both_norms ? &norm : &none;
    layers_.push_back({norm, c.residual == Residual::one_norm ? none : norm, *post, *post, make_mixer(c, i), Mlp(c)});
  }
  norm_ = Norm(c.width, c.norm);
  if (!c.tied) output_ = Linear(c.vocab, c.width);
  if (c.lora.rank > 0) declare_lora();
}

void Decoder::visit(const VisitParameters& f) {
  f("tok_embeddings.weight", embedding_);
  f("pos_embeddings.weight", positions_);
  post_embed_norm_.visit("post_embed_norm", f);
  for (size_t i = 0; i < layers_.size(); i++) {
    const std::string path = "layers." + std::to_string(i);
    layers_[i].attention_norm.visit(path + ".attention_norm", f);
    layers_[i].mixer->visit(path + ".attention", f);
    layers_[i].mlp_norm.visit(path + ".ffn_norm", f);
    layers_[i].attention_post_norm.visit(path + ".attention_post_norm", f);
    layers_[i].mlp_post_norm.visit(path + ".ffn_post_norm", f);
    layers_[i].mlp.visit(path, f);
  }
  norm_.visit("norm", f);
  if (!config_.tied) output_.visit("output", f);
}

int64_t Decoder::parameter_count() {
  int64_t n = 0;
  visit([&](const std::string&, Var& parameter) { n += parameter.numel(); });
  return n;
}

void Decoder::allocate() {
  visit([](const std::string&, Var& parameter) { parameter = Var(Tensor::zeros(parameter.shape()), true); });
}

void Decoder::to(Device device, Dtype activations) {
  visit([=](const std::string&, Var& parameter) {
    parameter = Var(parameter.value().to(device), parameter.requires_grad());
  });
  for (const Layer& layer : layers_) layer.mixer->to(device, activations);
  activations_ = activations;
}

bool Decoder::fold() {
  bool any = false;
  for (Layer& layer : layers_) any = layer.mixer->fold() || any;
  return any;
}

// Within three standard deviations, as in OpenLM's trunc_normal_.
static void fill_truncated_normal(const Tensor& t, double deviation, Philox& random) {
  float* x = t.data<float>();
  for (int64_t i = 0; i < t.numel(); i++) {
    double z;
    do z = random.normal();
    while (std::fabs(z) > 3);
    x[i] = static_cast<float>(deviation * z);
  }
}

// Mixer::init_neutral() fills these.
static bool is_neutral(const std::string& name) {
  return name_matches(name, {"_totrain_decay", "_totrain_z", "_totrain_far", "_totrain_beta", "_totrain_conv"});
}

void Decoder::init_weights(uint64_t seed, const std::function<bool(const std::string& name)>& which) {
  Philox random(seed, 1);
  int64_t map_width = 0;
  visit([&](const std::string& name, Var& parameter) {
    if ((which && !which(name)) || is_neutral(name)) return;
    const Tensor& t = parameter.value();
    const auto has = [&](const std::vector<std::string>& parts) { return name_matches(name, parts); };
    const bool is_bias = name.ends_with(".bias");
    if (has({"norm"})) {
      t.fill(is_bias ? 0 : 1);
    } else if (has({"_totrain_embed"})) {
      // a bias follows its weight and takes its bound
      if (!is_bias) map_width = t.dim(1);
      fill_uniform(t, 1 / std::sqrt(static_cast<double>(map_width)), random);
    } else if (is_bias) {
      t.fill(0);
    } else {
      const bool residual = has({"out_proj", ".w3.", "_ff_w2", "down_proj"});
      const int64_t layer = residual ? std::stoll(name.substr(7)) : 0;
      const double shrink = residual ? std::sqrt(2.0 * static_cast<double>(layer + 1)) : 1;
      const int64_t fan_in = has({"tok_embeddings"}) ? config_.width : t.dim(1);
      fill_truncated_normal(t, 1 / (std::sqrt(static_cast<double>(fan_in)) * shrink), random);
    }
  });
  for (const Layer& layer : layers_) layer.mixer->init_neutral();
}

State Decoder::init_state(int64_t batch) const {
  State state{std::vector<int64_t>(batch, 0), {}};
  for (const Layer& layer : layers_) state.layers.push_back(layer.mixer->init_state(batch));
  return state;
}

State Decoder::branch(const State& state, int64_t row) const {
  CHECK(row >= 0 && row < state.batch(), "branch: row %ld of %ld", static_cast<long>(row), static_cast<long>(state.batch()));
  State made{{state.positions[row]}, {}};
  for (size_t i = 0; i < layers_.size(); i++) {
    LayerState& into = made.layers.emplace_back();
    for (const Var& part : state.layers[i].parts) {
      const Tensor rows = part.value().rows(row, row + 1);
      into.parts.push_back(Var(layers_[i].mixer->kind() == MixerKind::softmax ? rows : rows.clone()));
    }
  }
  return made;
}

size_t Decoder::state_bytes(int64_t position) const {
  size_t bytes = 0;
  for (const Layer& layer : layers_) bytes += layer.mixer->state_bytes(position);
  return bytes;
}

static Var scaled(const Var& x, double factor) { return factor == 1 ? x : scale(x, factor); }

Var Decoder::embed(const Tensor& tokens, const Steps& steps) const {
  Var x = scaled(embedding(tokens, embedding_, activations_), config_.embedding_scale);
  if (config_.learned_positions) {
    const int64_t B = tokens.dim(0), T = tokens.dim(1), most = config_.context;
    const Tensor ids = Tensor::zeros({B, T}, Dtype::i32);
    std::vector<int64_t> counted;
    positions(counted, "decoder", steps.first, T, steps.cuts);
    for (int64_t i = 0; i < B * T; i++) {
      if (!steps.lengths.empty() && i % T >= steps.lengths[i / T]) continue;
      CHECK(counted[i] < most, "decoder: position %ld, but the model has learned only %ld positions (give it a shorter text)",
            static_cast<long>(counted[i]), static_cast<long>(most));
      ids.data<int32_t>()[i] = static_cast<int32_t>(counted[i]);
    }
    x = add(x, embedding(ids, positions_, activations_));
  }
  return config_.post_embed_norm ? post_embed_norm_(x) : x;
}

Var Decoder::mixer_input(int64_t index, const Var& x) const {
  return config_.residual == Residual::post_norm ? x : layers_[index].attention_norm(x);
}

Var Decoder::block(int64_t index, const Var& given, const Steps& steps, LayerState* state, const OnMixer& on_mixer) const {
  const Layer& layer = layers_[index];
  const Var u = mixer_input(index, given);
  const auto mix = [&] {
    const Var y = layer.mixer->forward(u, steps, state);
    if (on_mixer) on_mixer(index, u, y, steps);
    return y;
  };
  const auto plus = [&](const Var& x, const Var& branch) { return add(x, scaled(branch, config_.residual_scale)); };
  Var x = given;
  switch (config_.residual) {
    case Residual::pre_norm:
      x = plus(x, mix());
      return plus(x, layer.mlp(layer.mlp_norm(x)));
    case Residual::parallel:
      return plus(plus(x, mix()), layer.mlp(layer.mlp_norm(x)));
    case Residual::post_norm:
      x = plus(x, layer.attention_norm(mix()));
      return plus(x, layer.mlp_norm(layer.mlp(x)));
    case Residual::one_norm:
      return plus(plus(x, mix()), layer.mlp(u));
    case Residual::both_norms:
      x = plus(x, layer.attention_post_norm(mix()));
      return plus(x, layer.mlp_post_norm(layer.mlp(layer.mlp_norm(x))));
  }
  fail("decoder: unknown order of a layer %d", static_cast<int>(config_.residual));
}

Var Decoder::hidden(const Tensor& tokens, State* state, const std::vector<int64_t>& lengths, const Cuts& cuts,
                    const OnMixer& on_mixer) const {
  CHECK(tokens.rank() == 2, "decoder: tokens are %s, expected (B, T)", to_string(tokens.shape()).c_str());
  const int64_t B = tokens.dim(0), T = tokens.dim(1);
  CHECK(!state || state->batch() == B, "decoder: %ld rows of tokens, %ld rows of state", static_cast<long>(B),
        static_cast<long>(state ? state->batch() : 0));
  CHECK(lengths.empty() || static_cast<int64_t>(lengths.size()) == B, "decoder: %zu lengths for %ld rows", lengths.size(),
        static_cast<long>(B));
  const std::vector<int64_t> ends = lengths.empty() ? std::vector<int64_t>(B, T) : lengths;
  check_cuts("decoder", cuts, ends);
  const Steps steps{state ? state->positions : std::vector<int64_t>(B, 0), lengths, cuts};

  Var x = embed(tokens, steps);
  for (int64_t i = 0; i < layers(); i++) {
    LayerState* past = state ? &state->layers[i] : nullptr;
    if (!recompute_ || !grad_enabled()) {
      x = block(i, x, steps, past, on_mixer);
      continue;
    }
    // inputs and outputs: x, then the parts of the state
    std::vector<Var> inputs = {x};
    if (past) inputs.insert(inputs.end(), past->parts.begin(), past->parts.end());
    const auto run = [this, i, steps, with_state = past != nullptr](const std::vector<Var>& in) {
      LayerState local{{in.begin() + 1, in.end()}};
      std::vector<Var> out = {block(i, in[0], steps, with_state ? &local : nullptr, {})};
      out.insert(out.end(), local.parts.begin(), local.parts.end());
      return out;
    };
    const std::vector<Var> outputs = checkpoint(run, inputs);
    x = outputs[0];
    if (past) past->parts.assign(outputs.begin() + 1, outputs.end());
  }
  for (int64_t b = 0; state && b < B; b++) {
    int64_t& position = state->positions[b];
    position = cuts.empty() || cuts[b].empty() ? position + ends[b] : ends[b] - cuts[b].back();
  }
  return norm_(x);
}

// With a cap, logits are cap tanh(x / cap): the division is done here.
Var Decoder::for_logits(const Var& hidden) const {
  return scaled(hidden, config_.logit_cap > 0 ? config_.logit_scale / config_.logit_cap : config_.logit_scale);
}

Var Decoder::logits(const Var& hidden) const {
  const Var x = linear(for_logits(hidden), output_weight());
  return config_.logit_cap > 0 ? scale(tanh(x), config_.logit_cap) : x;
}

Var Decoder::loss(const Var& hidden, const Tensor& targets, double z_loss, const Distillation& distillation) const {
  return linear_cross_entropy(reshape(for_logits(hidden), {-1, config_.width}), output_weight(), targets.view({-1}), z_loss, distillation,
                              config_.logit_cap);
}

}  // namespace supra
