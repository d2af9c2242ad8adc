#include "supra/linearize.h"

#include <algorithm>
#include <map>

#include "tensor/random.h"

namespace supra {

static void check_layer(int64_t layer, const Config& teacher, const char* what) {
  CHECK(layer >= 0 && layer < teacher.layers, "linearize: layer %ld is to %s, the model has layers 0 to %ld",
        static_cast<long>(layer), what, static_cast<long>(teacher.layers - 1));
}

static std::vector<int64_t> by_layer(const std::vector<LayerSetting>& settings, const Config& teacher, const char* what) {
  std::vector<int64_t> values(teacher.layers);
  for (const LayerSetting& setting : settings) {
    if (setting.layers.empty()) values.assign(values.size(), setting.value);
    for (const int64_t layer : setting.layers) {
      check_layer(layer, teacher, what);
      values[layer] = setting.value;
    }
  }
  return values;
}

static std::vector<int64_t> replaced_layers(const Config& teacher, const LinearizeOptions& options) {
  for (const int64_t layer : options.keep_softmax) check_layer(layer, teacher, "keep its softmax");
  std::vector<int64_t> replaced;
  for (int64_t i = 0; i < teacher.layers; i++) {
    const bool keep = std::count(options.keep_softmax.begin(), options.keep_softmax.end(), i) > 0;
    if (!keep && teacher.mixers[i] == MixerKind::softmax) replaced.push_back(i);
  }
  CHECK(!replaced.empty(), "linearize: no softmax layer is left to replace (%s)",
        options.keep_softmax.empty() ? "the model is recurrent already" : "--keep-softmax names them all");
  return replaced;
}

static Config window_config(const Config& teacher, const LinearizeOptions& options) {
  Config config = teacher;
  const auto windows = by_layer(options.windows, teacher, "get a window"), far = by_layer(options.far_features, teacher, "get far features");
  const bool any_far = std::count(far.begin(), far.end(), 0) < config.layers;
  config.sinks = options.sinks;
  config.state_dtype = options.state_dtype;
  config.windows.resize(config.layers);
  if (any_far) config.far_features.resize(config.layers);
  for (const int64_t i : replaced_layers(teacher, options)) {
    config.mixers[i] = MixerKind::window;
    // a teacher's own window never grows, and keys beyond it have no weight that a far part could learn
    const int64_t own = config.windows[i];
    config.windows[i] = own > 0 ? std::min(own, windows[i]) : windows[i];
    if (any_far) config.far_features[i] = own > 0 ? 0 : far[i];
  }
  return config;
}

static Config supra_config(const Config& teacher, const LinearizeOptions& options) {
  Config config = teacher;
  // layers that are already recurrent keep their settings, and the others get the same
  if (!has_head_states(teacher)) {
    using Map = LinearizeOptions::FeatureMap;
    const bool delta = options.mixer == MixerKind::delta, wide = options.key_dim > 0 && options.key_dim != teacher.head_dim;
    const Map map = options.feature_map.value_or(delta && !wide ? Map::none : Map::full);
    config.decay = options.decay;
    if (delta) config.decay.source = DecayConfig::Source::gated;
    config.feature_map = map != Map::none;
    config.per_head_feature_map = map == Map::per_head;
    config.short_convolution = delta && options.short_convolution;
    config.rotates = options.rotates;
    config.rope_before_map = options.rope_before_map;
    config.output_norm = options.output_norm.value_or(delta ? OutputNorm::none : OutputNorm::group);
    config.output_gate = options.output_gate;
    if (options.key_dim > 0) config.key_dim = options.key_dim;
    if (options.qk_norm && config.qk_norm == QkNorm::none) {
      CHECK(options.keep_softmax.empty(),
            "linearize: the layers that keep their softmax have no norms of q and k (give --qk-norm or --keep-softmax)");
      config.qk_norm = QkNorm::whole;
    }
    CHECK(config.decay.source == DecayConfig::Source::fixed || config.decay.kind != DecayConfig::Kind::none,
          "linearize: a learned decay needs a slope to start from (give --decay lightning or retnet)");
  }
  for (const int64_t i : replaced_layers(teacher, options)) {
    config.mixers[i] = options.mixer;
    if (!config.windows.empty()) config.windows[i] = 0;
  }
  const int64_t scaled = 2 * static_cast<int64_t>(config.rope.divisors.size());
  CHECK(scaled == 0 || config.rope.dims != 0 || config.rope_before_map || config.key_dim == config.head_dim,
        "linearize: the teacher's rotary frequencies are scaled individually, for the %ld dimensions of its heads, not for %ld "
        "features (give --rope before-map, or no --key-dim)",
        static_cast<long>(scaled), static_cast<long>(config.key_dim));
  return config;
}

static std::vector<std::string> notes_on(const Config& teacher, const Config& student, MixerKind mixer) {
  std::vector<std::string> notes;
  if (teacher.learned_positions) {
    notes.push_back(format("the learned positions are kept: the model ends at %ld tokens, as its teacher", static_cast<long>(teacher.context)));
  }
  if (teacher.rope.trained > 0) {
    notes.push_back(format("the rotary frequencies change beyond %ld tokens: what the state holds then stays as it was rotated",
                           static_cast<long>(teacher.rope.trained)));
  }
  if (mixer == MixerKind::window) return notes;
  if (student.windows != teacher.windows) notes.push_back("the window of the attention is gone: the decay forgets instead");
  if (teacher.score_cap > 0) notes.push_back("the cap of the attention's scores is gone with its softmax");
  if (teacher.rope.magnitude != 1) {
    notes.push_back("the rotary scaling's factor on queries and keys is kept, and the norm of the outputs takes it away again");
  }
  if (student.output_norm == OutputNorm::denominator && !student.rope_before_map && student.rope.layout != Rope::Layout::none) {
    notes.push_back("the sum of weights may cross zero where features are rotated (--rope before-map keeps it positive)");
  }
  if (teacher.qk_norm != QkNorm::none) notes.push_back("the norms of queries and keys are kept, behind the feature maps");
  return notes;
}

// The norms of q and k are called _totrain_q_norm and _totrain_k_norm in a SUPRA layer: OpenLM's names.
static std::string teacher_name(std::string name) {
  for (const char* part : {"_totrain_q_norm", "_totrain_k_norm"}) {
    const size_t at = name.find(part);
    if (at != std::string::npos) name.replace(at, 9, "");
  }
  return name;
}

// Copies a weight of the teacher. A SUPRA layer normalises k after its heads were repeated: the gain of a key head is used for
// each of its query heads. The features that make_identity() makes of one dimension share its gain.
static void copy_weight(const std::string& name, const Tensor& to, const Tensor& from, const Config& c) {
  if (to.shape() == from.shape()) return to.copy_from(from);
  CHECK(name != teacher_name(name), "linearize: %s is %s, the teacher has %s", name.c_str(), to_string(to.shape()).c_str(),
        to_string(from.shape()).c_str());
  const int64_t K = c.key_dim, D = c.head_dim, repeat = to.numel() / K / (from.numel() / D);
  for (int64_t i = 0; i < to.numel(); i++) to.data<float>()[i] = from.data<float>()[i / K / repeat * D + i % K % D];
}

// Parameters that softmax attention does not have.
static bool is_new(const std::string& name) { return name.find("_totrain_") != std::string::npos; }

// Makes the features of a map, of which this is the weight or the bias, relu(u) and then relu(-u). Further features stay.
static void make_identity(const Tensor& map, const Config& c) {
  const int64_t width = map.rank() == 2 ? map.dim(1) : 1, K = c.key_dim, D = c.head_dim;
  float* row = map.data<float>();
  for (int64_t i = 0; i < map.dim(0); i++, row += width) {
    const int64_t head = i / K, feature = i % K;
    if (feature >= 2 * D) continue;
    std::fill_n(row, width, 0.f);
    const int64_t column = (c.per_head_feature_map ? 0 : head * D) + feature % D;
    if (map.rank() == 2) row[column] = feature < D ? 1 : -1;
  }
}

Linearized linearize(const Model& teacher, const LinearizeOptions& options) {
  Linearized result;
  Model& student = result.model;
  student.tokenizer = teacher.tokenizer;
  student.format = teacher.format;
  const Config& c = teacher.config();
  student.decoder = make_decoder(options.mixer == MixerKind::window ? window_config(c, options) : supra_config(c, options));
  result.notes = notes_on(c, student.config(), options.mixer);
  student.decoder->init_weights(options.seed, is_new);

  std::map<std::string, Tensor> weights;
  teacher.decoder->visit([&](const std::string& name, Var& parameter) { weights[name] = parameter.value(); });
  student.decoder->visit([&](const std::string& name, Var& parameter) {
    const auto found = weights.find(name) != weights.end() ? weights.find(name) : weights.find(teacher_name(name));
    if (found != weights.end()) {
      copy_weight(name, parameter.value(), found->second, student.config());
      result.copied.push_back(name);
      result.copied_parameters += parameter.numel();
      return;
    }
    result.fresh.push_back(name);
    result.fresh_parameters += parameter.numel();
    CHECK(is_new(name), "linearize: the teacher has no %s", name.c_str());
    const bool is_map = name.find("_totrain_embed") != std::string::npos;
    if (is_map && options.init == LinearizeOptions::Init::identity) make_identity(parameter.value(), student.config());
  });
  return result;
}

}  // namespace supra
