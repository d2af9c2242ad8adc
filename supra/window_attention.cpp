#include "supra/window_attention.h"

#include <algorithm>

#include "kernels/decode_heads.h"
#include "kernels/dispatch.h"

namespace supra {

// m_n of a new far part: e^m_n is very small beside scores of about e^0
constexpr float kSmallMass = -8;

WindowAttention::WindowAttention(const Config& c, int64_t layer)
    : SoftmaxAttention(c, layer),
      sinks_(c.sinks), far_features_(c.far_features.empty() ? 0 : c.far_features[layer]), context_(c.context),
      parts_(c.parts), state_dtype_(c.state_dtype), held_rope_(rope_) {
  held_rope_.held_at = sinks_ + window_ - 1;
  held_rope_.held_from = std::max(context_, held_rope_.held_at);
  cache_dtype_ = state_dtype_;
  if (far_features_ == 0) return;
  far_q_ = Linear(heads_ * far_features_ / 2, head_dim_);
  far_k_ = Linear(kv_heads_ * far_features_ / 2, head_dim_);
  far_mass_ = Linear(heads_, head_dim_, true);
}

void WindowAttention::visit(const std::string& path, const VisitParameters& f) {
  SoftmaxAttention::visit(path, f);
  far_q_.visit(path + "._totrain_far_q", f);
  far_k_.visit(path + "._totrain_far_k", f);
  far_mass_.visit(path + "._totrain_far_mass", f);
}

void WindowAttention::init_neutral() {
  if (far_features_ == 0) return;
  const int64_t rows = far_features_ / 2;
  for (const Var* map : {&far_q_.weight, &far_k_.weight}) {
    map->value().fill(0);
    // each feature of a head reads one dimension
    for (int64_t i = 0; i < map->dim(0); i++) map->value().data<float>()[i * head_dim_ + i % rows % head_dim_] = 1;
  }
  far_mass_.weight.value().fill(0);
  far_mass_.bias.value().fill(kSmallMass);
}

void WindowAttention::to(Device device, Dtype activations) {
  cache_dtype_ = device == Device::cpu ? state_dtype_ : activations;
}

std::vector<Mixer::StatePart> WindowAttention::state_parts(int64_t) const {
  const Dtype summed = sum_dtype(in_proj_.weight.dtype()), kept = summed == Dtype::f64 ? summed : cache_dtype_;
  const int64_t slots = sinks_ + window_;
  std::vector<StatePart> parts = {{{slots, kv_heads_, head_dim_}, kept}, {{slots, kv_heads_, value_dim_}, kept}};
  if (far_features_ > 0) parts.push_back({{kv_heads_, far_features_, value_dim_ + 1}, summed});
  return parts;
}

// The keys of a call: for row b the keys of its ring, in order, and then T new ones.
struct WindowAttention::Layout {
  int64_t B, T, window, sinks, slots;
  std::vector<int64_t> positions, lengths;    // (B) of the first new step, and the steps that count
  std::vector<int64_t> held;                  // (B) keys from the ring
  int64_t keys = 0;                           // of a row, the longest
  Cuts cuts;

  Layout(const Steps& steps, int64_t T, int64_t window, int64_t sinks, bool with_state)
      : B(static_cast<int64_t>(steps.first.size())), T(T), window(window), sinks(sinks), slots(sinks + window),
        positions(steps.first), lengths(steps.lengths.empty() ? std::vector<int64_t>(B, T) : steps.lengths), cuts(steps.cuts) {
    for (const int64_t p : positions) held.push_back(with_state ? std::min(p, slots) : 0);
    keys = *std::max_element(held.begin(), held.end()) + T;
  }

  int64_t slot(int64_t position) const { return ring_slot(position, sinks, window); }
  // For the last document of row b: its first new column, and the position behind its last step.
  int64_t cut(int64_t b) const { return cuts.empty() || cuts[b].empty() ? 0 : cuts[b].back(); }
  int64_t end(int64_t b) const { return cut(b) > 0 ? lengths[b] - cut(b) : positions[b] + lengths[b]; }

  // For key i of row b: its row in the old ring (B,slots) or, behind that, in the new keys (B,T).
  int64_t source(int64_t b, int64_t i) const {
    if (i >= held[b]) return B * slots + b * T + i - held[b];
    return b * slots + (i < sinks ? i : slot(positions[b] - held[b] + i));
  }

  // The sources of the call's keys (B,keys).
  std::vector<int64_t> gather() const {
    std::vector<int64_t> index(B * keys, -1);
    for (int64_t b = 0; b < B; b++) {
      for (int64_t i = 0; i < held[b] + T; i++) index[b * keys + i] = source(b, i);
    }
    return index;
  }

  // The sources of the keys that the ring (B,slots) holds after the call.
  std::vector<int64_t> ring() const {
    std::vector<int64_t> index(B * slots, -1);
    for (int64_t b = 0; b < B; b++) {
      // position p of the last document
      const auto keep = [&](int64_t p) {
        const int64_t key = cut(b) > 0 ? held[b] + cut(b) + p : p < sinks ? p : p - positions[b] + held[b];
        index[b * slots + slot(p)] = source(b, key);
      };
      for (int64_t p = 0; p < std::min(sinks, end(b)); p++) keep(p);
      for (int64_t p = std::max(sinks, end(b) - window); p < end(b); p++) keep(p);
    }
    return index;
  }

  // The key that leaves the window at step t, in row t * repeat of (B,T*repeat). Other rows, and steps without one, are -1.
  std::vector<int64_t> leaving(int64_t repeat) const {
    std::vector<int64_t> index(B * T * repeat, -1);
    for (int64_t b = 0; b < B; b++) {
      size_t next = 0;
      int64_t document = 0;  // the first key of the step's document
      for (int64_t t = 0; t < lengths[b]; t++) {
        if (!cuts.empty() && next < cuts[b].size() && t == cuts[b][next]) document = held[b] + cuts[b][next++];
        const int64_t key = held[b] + t - window;
        if (key >= document + sinks) index[(b * T + t) * repeat] = b * keys + key;
      }
    }
    return index;
  }
};

// x (B,T,G,D) with the heads of a step in one row.
static Var rows_of(const Var& x) { return reshape(x, {-1, x.dim(-2) * x.dim(-1)}); }

Var WindowAttention::far_features_of(const Linear& map, const Var& x, int64_t heads) const {
  const int64_t B = x.dim(0), T = x.dim(1);
  const Var flat = reshape(x, {B, T, heads * head_dim_});
  const Var no_bias(Tensor::zeros({map.weight.dim(0)}, map.weight.dtype(), x.value().device()));
  return reshape(softmax_features(headwise_linear(flat, map.weight, no_bias, heads), heads), {B, T, heads, far_features_});
}

Var WindowAttention::far_mass(const Var& q) const {
  return headwise_linear(reshape(q, {q.dim(0), q.dim(1), heads_ * head_dim_}), far_mass_.weight, far_mass_.bias, heads_);
}

// v (...,G,V) with a last column of ones, whose weighted sum is the sum of the features
static Var with_ones(const Var& v) {
  Shape shape = v.shape();
  shape.back() = 1;
  return concat_columns({v, Var(Tensor::full(shape, 1, v.dtype(), v.value().device()))});
}

// The far part of each step: linear attention without decay to the keys that have left the window. Query heads that share a
// state become steps of it, one after the other: (B,T*H/G,G,features).
LinearAttention WindowAttention::far_sums(const Var& q, const Var& keys, const Var& values, const Layout& layout, const Var& state) const {
  const int64_t B = q.dim(0), T = q.dim(1), H = heads_, G = kv_heads_, repeat = H / G, V = values.dim(-1) + 1;
  // row [b, t, g, j] of the queries as row [b, t, j, g], and back
  std::vector<int64_t> by_state(B * T * H), by_head(B * T * H);
  for (int64_t i = 0; i < B * T * H; i++) {
    const int64_t step = i / H, g = i % H / repeat, j = i % repeat, to = step * H + j * G + g;
    by_state[to] = i, by_head[i] = to;
  }
  const std::vector<int64_t> leaving = layout.leaving(repeat);
  const auto steps_of = [&](const Var& rows, const std::vector<int64_t>& index, int64_t width) {
    return reshape(take_rows({rows}, index), {B, T * repeat, G, width});
  };
  std::vector<int64_t> lengths;
  Cuts cuts = layout.cuts;
  for (const int64_t length : layout.lengths) lengths.push_back(length * repeat);
  for (std::vector<int64_t>& row : cuts) {
    for (int64_t& cut : row) cut *= repeat;
  }
  const Var no_decay(Tensor::zeros({G}, sum_dtype(q.dtype()), q.value().device()));
  const LinearAttention sums =
      linear_attention(steps_of(reshape(far_features_of(far_q_, q, H), {-1, far_features_}), by_state, far_features_),
                       steps_of(rows_of(far_features_of(far_k_, keys, G)), leaving, far_features_),
                       steps_of(rows_of(with_ones(values)), leaving, V), no_decay, 1, state, lengths, 0, cuts);
  return {reshape(take_rows({reshape(sums.o, {-1, V})}, by_head), {B, T, H, V}), sums.state};
}

SoftmaxPart WindowAttention::near_part(const Var& q, const Var& k, const Var& v, int64_t window) const {
  return softmax_attention_with_sinks(q, {}, k, v, scores_, std::vector<int64_t>(q.dim(0), 0), window, sinks_);
}

Var WindowAttention::far_part(const Var& q, const Var& k, const Var& v, int64_t window) const {
  const Steps from_here = {std::vector<int64_t>(q.dim(0), 0), {}, {}};
  return far_sums(q, k, v, Layout(from_here, q.dim(1), window, sinks_, false), {}).o;
}

Var WindowAttention::join(const SoftmaxPart& near, const Var& far, const Var& q) const {
  if (parts_ == MixerParts::none) return scale(near.o, 0);
  if (parts_ == MixerParts::far) return far.defined() ? divide_by_last(far, 1e-30) : scale(near.o, 0);
  return far.defined() && parts_ == MixerParts::all ? join_attention(near.o, near.lse, far, far_mass(q)) : near.o;
}

Var WindowAttention::features(const Var& x, const Steps& steps, LayerState* state) const {
  const int64_t B = x.dim(0), T = x.dim(1);
  const Heads heads = project(x);
  const Var q = rope(heads.q, rope_, steps.first, steps.cuts), k = rope(heads.k, rope_, steps.first, steps.cuts), &v = heads.v;
  // on a GPU the recorded step must be the same at every position
  const bool beyond = x.value().device() == Device::cuda || *std::max_element(steps.first.begin(), steps.first.end()) + T > context_;
  const Var q_sinks = beyond ? rope(heads.q, held_rope_, steps.first, steps.cuts) : q;
  const bool far_on = far_features_ > 0;
  SoftmaxPart near;
  Var far;
  if (state && is_decode(q, steps)) {
    const WindowStep step = window_step({state->parts[0].value(), state->parts[1].value(), window_, sinks_}, q.value(), q_sinks.value(),
                                        k.value(), v.value(), scores_, steps.first, far_on);
    near = {Var(step.o), Var(step.lse)};
    if (far_on) {
      const Tensor no_decay = Tensor::zeros({heads_}, Dtype::f32, q.value().device());
      far = Var(linear_attention_step(state->parts[2].value(), far_features_of(far_q_, q, heads_).value(),
                                      far_features_of(far_k_, Var(step.old_k), kv_heads_).value(), step.old_v, no_decay, 1));
    }
    return reshape(join(near, far, q), {B, T, heads_ * value_dim_});
  }
  const Layout layout(steps, T, window_, sinks_, state != nullptr);
  Var keys = k, values = v;
  if (state) {
    const std::vector<int64_t> index = layout.gather(), ring = layout.ring();
    const auto gather = [&](Var& part, const Var& fresh) {
      // keys and values kept in 16 bits are rounded before their first use, so that splitting the steps changes nothing; with
      // gradients they are not rounded
      const Dtype kept = grad_enabled() ? q.dtype() : part.dtype();
      const std::vector<Var> sources = {rows_of(cast(part, kept)), rows_of(cast(fresh, kept))};
      part = cast(reshape(take_rows(sources, ring), part.shape()), part.dtype());
      return reshape(cast(take_rows(sources, index), q.dtype()), {B, layout.keys, kv_heads_, fresh.dim(-1)});
    };
    keys = gather(state->parts[0], k);
    values = gather(state->parts[1], v);
  }
  near = softmax_attention_with_sinks(q, q_sinks, keys, values, scores_, layout.held, window_, sinks_, steps.cuts);
  if (far_on) {
    const LinearAttention sums = far_sums(q, keys, values, layout, state ? state->parts[2] : Var());
    far = sums.o;
    if (state) state->parts[2] = sums.state;
  }
  return reshape(join(near, far, q), {B, T, heads_ * value_dim_});
}

Config without_far(Config config, int64_t layer) {
  const int64_t key = (config.key_dim + config.value_dim) * static_cast<int64_t>(size_of(config.state_dtype));
  config.windows[layer] += config.far_features[layer] * (config.value_dim + 1) * static_cast<int64_t>(sizeof(float)) / key;
  config.far_features[layer] = 0;
  return config;
}

}  // namespace supra
