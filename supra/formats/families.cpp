#include "supra/formats/families.h"

#include <algorithm>
#include <cstring>
#include <unordered_map>
#include <unordered_set>

namespace supra {

const Family& llama_family() {
  static const Family family = {
      {
          {"tok_embeddings", {"model.embed_tokens"}},
          {"layers.#.attention_norm", {"model.layers.#.input_layernorm"}},
          {"layers.#.attention.in_proj",
           {"model.layers.#.self_attn.q_proj", "model.layers.#.self_attn.k_proj",
            "model.layers.#.self_attn.v_proj"}},
          {"layers.#.attention.out_proj", {"model.layers.#.self_attn.o_proj"}},
          {"layers.#.ffn_norm", {"model.layers.#.post_attention_layernorm"}},
          {"layers.#.feed_forward.w12", {"model.layers.#.mlp.gate_proj", "model.layers.#.mlp.up_proj"}},
          {"layers.#.feed_forward.w3", {"model.layers.#.mlp.down_proj"}},
          {"norm", {"model.norm"}},
          {"output", {"lm_head"}},
      },
      {},
  };
  return family;
}

const Family& meta_family() {
  static const Family family = {
      {
          {"layers.#.attention.in_proj",
           {"layers.#.attention.wq", "layers.#.attention.wk", "layers.#.attention.wv"}},
          {"layers.#.attention.out_proj", {"layers.#.attention.wo"}},
          {"layers.#.feed_forward.w12", {"layers.#.feed_forward.w1", "layers.#.feed_forward.w3"}},
          {"layers.#.feed_forward.w3", {"layers.#.feed_forward.w2"}},
      },
      {},
  };
  return family;
}

const Family& openlm_family() {
  static const Family family = {{}, {"module.", "_orig_mod.", "model."}};
  return family;
}

namespace {

// The names in the family's files of one canonical tensor.
std::vector<std::string> stored_names(const Family& family, const std::string& canonical) {
  const size_t dot = canonical.rfind('.');
  std::string path = canonical.substr(0, dot), suffix = canonical.substr(dot), layer;
  if (path.starts_with("layers.")) {
    const size_t end = path.find('.', 7);
    layer = path.substr(7, end - 7);
    path = format("layers.#%s", path.c_str() + end);
  }
  std::vector<std::string> names = {path};
  for (const NameRule& rule : family.rules) {
    if (rule.canonical == path) names = rule.stored;
  }
  for (std::string& name : names) {
    const size_t hash = name.find('#');
    if (hash != std::string::npos) name.replace(hash, 1, layer);
    name += suffix;
  }
  return names;
}

std::string without_prefixes(std::string_view name, const Family& family) {
  const auto leads = [&](const std::string& prefix) { return name.starts_with(prefix); };
  while (true) {
    const auto found = std::find_if(family.prefixes.begin(), family.prefixes.end(), leads);
    if (found == family.prefixes.end()) return std::string(name);
    name.remove_prefix(found->size());
  }
}

class RenamedWeights : public WeightReader {
 public:
  RenamedWeights(std::unique_ptr<WeightReader> file, const Family& family,
                 const std::vector<Parameter>& parameters, std::vector<std::string>& unused);

 protected:
  Tensor read(size_t index) const override;

 private:
  void add_parameter(const Parameter& parameter, std::vector<const TensorInfo*> sources);

  std::unique_ptr<WeightReader> file_;
  std::vector<std::vector<const TensorInfo*>> sources_;
};

RenamedWeights::RenamedWeights(std::unique_ptr<WeightReader> file, const Family& family,
                               const std::vector<Parameter>& parameters, std::vector<std::string>& unused)
    : WeightReader(file->path()), file_(std::move(file)) {
  std::unordered_map<std::string, const TensorInfo*> by_name;
  for (const TensorInfo& info : file_->tensors()) {
    const bool fresh = by_name.emplace(without_prefixes(info.name, family), &info).second;
    CHECK(fresh, "%s: tensor %s stands twice, with and without a prefix", path().c_str(), info.name.c_str());
  }
  std::unordered_set<const TensorInfo*> used;
  std::vector<std::string> missing;
  for (const Parameter& parameter : parameters) {
    std::vector<const TensorInfo*> sources;
    for (const std::string& name : stored_names(family, parameter.name)) {
      const auto found = by_name.find(name);
      if (found == by_name.end())
        missing.push_back(name);
      else
        sources.push_back(found->second);
    }
    used.insert(sources.begin(), sources.end());
    if (missing.empty()) add_parameter(parameter, std::move(sources));
  }
  std::string some;
  for (size_t i = 0; i < std::min<size_t>(3, missing.size()); i++) some += (i ? ", " : "") + missing[i];
  CHECK(missing.empty(), "%s: tensor %s%s missing (of %zu that the config asks for, %zu are not here)",
        path().c_str(), some.c_str(),
        missing.size() > 3   ? ", ... are"
        : missing.size() > 1 ? " are"
                             : " is",
        parameters.size(), missing.size());
  for (const TensorInfo& info : file_->tensors()) {
    if (!used.contains(&info)) unused.push_back(info.name);
  }
}

void RenamedWeights::add_parameter(const Parameter& parameter, std::vector<const TensorInfo*> sources) {
  TensorInfo info = *sources[0];
  for (size_t i = 0; i < sources.size(); i++) {
    Shape expected = parameter.shape;
    if (sources.size() > 1) expected[0] = parameter.parts[i];
    CHECK(sources[i]->shape == expected, "%s: tensor %s is %s, the config asks for %s", path().c_str(),
          sources[i]->name.c_str(), to_string(sources[i]->shape).c_str(), to_string(expected).c_str());
    // parts of several types meet in f32
    if (sources[i]->dtype != info.dtype) info.dtype = Dtype::f32;
    if (sources[i]->stored != info.stored) info.stored.clear();
  }
  info.name = parameter.name;
  info.shape = parameter.shape;
  add(std::move(info));
  sources_.push_back(std::move(sources));
}

Tensor RenamedWeights::read(size_t index) const {
  const std::vector<const TensorInfo*>& sources = sources_[index];
  if (sources.size() == 1) return file_->get(sources[0]->name);
  const TensorInfo& info = tensors()[index];
  Tensor stacked = Tensor::empty(info.shape, info.dtype);
  int64_t row = 0;
  for (const TensorInfo* source : sources) {
    const int64_t rows = source->shape[0];
    stacked.rows(row, row + rows).copy_from(file_->get(source->name));
    row += rows;
  }
  return stacked;
}

}  // namespace

std::unique_ptr<WeightReader> rename_weights(std::unique_ptr<WeightReader> file, const Family& family,
                                             const std::vector<Parameter>& parameters,
                                             std::vector<std::string>& unused) {
  return std::make_unique<RenamedWeights>(std::move(file), family, parameters, unused);
}

}  // namespace supra
