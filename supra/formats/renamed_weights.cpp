#include "supra/formats/renamed_weights.h"

#include <algorithm>
#include <unordered_map>
#include <unordered_set>

#include "supra/formats/rearrange.h"

namespace supra {

namespace {

std::string without_prefixes(std::string_view name, const TensorNames& names) {
  const auto leads = [&](const std::string& prefix) { return name.starts_with(prefix); };
  while (true) {
    const auto found = std::find_if(names.prefixes.begin(), names.prefixes.end(), leads);
    if (found == names.prefixes.end()) return std::string(name);
    name.remove_prefix(found->size());
  }
}

class RenamedWeights : public WeightReader {
 public:
  RenamedWeights(std::unique_ptr<WeightReader> file, const TensorNames& names, const Config& config,
                 std::vector<std::string>& unused);

 protected:
  Tensor read(size_t index) const override;

 private:
  struct Source {
    std::vector<const TensorInfo*> tensors;
    std::vector<int64_t> parts;  // rows of q, k and v, or of gate and up
    NameRule::Rows rows;
    bool less_one;  // the file has the parameter less 1
  };
  void add_parameter(const Parameter& parameter, Source source);

  std::unique_ptr<WeightReader> file_;
  int64_t head_dim_;
  std::vector<Source> sources_;
};

RenamedWeights::RenamedWeights(std::unique_ptr<WeightReader> file, const TensorNames& names, const Config& config,
                               std::vector<std::string>& unused)
    : WeightReader(file->path()), file_(std::move(file)), head_dim_(config.head_dim) {
  // checked before anything of the config's size is allocated: each model has an embedding and rows of queries
  double weights = 0;
  for (const TensorInfo& info : file_->tensors()) weights += static_cast<double>(numel(info.shape));
  const auto real = [](int64_t n) { return static_cast<double>(n); };
  const double least = real(config.width) * (real(config.vocab) + real(config.layers) * real(config.heads) * real(config.head_dim));
  CHECK(least <= weights, "%s: the config needs at least %.0f weights, the file has %.0f", path().c_str(), least, weights);
  std::unordered_map<std::string, const TensorInfo*> by_name;
  for (const TensorInfo& info : file_->tensors()) {
    const bool fresh = by_name.emplace(without_prefixes(info.name, names), &info).second;
    CHECK(fresh, "%s: there are two tensors %s, with and without a prefix", path().c_str(), info.name.c_str());
  }
  const auto is_there = [&](const std::string& name) { return by_name.contains(name); };
  const std::vector<Parameter> parameters = parameters_of(config);
  std::unordered_set<const TensorInfo*> used;
  std::vector<std::string> missing;
  for (const Parameter& parameter : parameters) {
    const std::vector<NameRule> rules = names.rules_for(parameter.name);
    const auto found = std::find_if(rules.begin(), rules.end(), [&](const NameRule& rule) {
      return std::all_of(rule.stored.begin(), rule.stored.end(), is_there);
    });
    if (found == rules.end()) {
      std::copy_if(rules[0].stored.begin(), rules[0].stored.end(), std::back_inserter(missing), std::not_fn(is_there));
      continue;
    }
    Source source = {{}, parameter.parts, found->rows, names.is_less_one(parameter.name)};
    for (const std::string& name : found->stored) source.tensors.push_back(by_name.at(name));
    used.insert(source.tensors.begin(), source.tensors.end());
    if (missing.empty()) add_parameter(parameter, std::move(source));
  }
  std::string some;
  for (size_t i = 0; i < std::min<size_t>(3, missing.size()); i++) some += (i ? ", " : "") + missing[i];
  CHECK(missing.empty(), "%s: tensor %s%s missing (%zu that the config asks for are not here)", path().c_str(), some.c_str(),
        missing.size() > 3 ? ", ... are" : missing.size() > 1 ? " are" : " is", missing.size());
  for (const TensorInfo& info : file_->tensors()) {
    if (!used.contains(&info)) unused.push_back(info.name);
  }
}

void RenamedWeights::add_parameter(const Parameter& parameter, Source source) {
  TensorInfo info = *source.tensors[0];
  // a bias has one dimension and is not transposed
  if (source.rows == NameRule::Rows::transposed && parameter.shape.size() < 2) source.rows = NameRule::Rows::same;
  for (size_t i = 0; i < source.tensors.size(); i++) {
    const TensorInfo& tensor = *source.tensors[i];
    Shape expected = parameter.shape;
    if (source.tensors.size() > 1) expected[0] = parameter.parts[i];
    if (source.rows == NameRule::Rows::transposed) std::reverse(expected.begin(), expected.end());
    CHECK(tensor.shape == expected, "%s: tensor %s is %s, the config asks for %s", path().c_str(), tensor.name.c_str(),
          to_string(tensor.shape).c_str(), to_string(expected).c_str());
    // parts of different dtypes become f32
    if (tensor.dtype != info.dtype) info.dtype = Dtype::f32;
    if (tensor.stored != info.stored) info.stored.clear();
  }
  if (source.less_one) info.dtype = Dtype::f32;
  info.name = parameter.name;
  info.shape = parameter.shape;
  add(std::move(info));
  sources_.push_back(std::move(source));
}

// Whether each tensor begins where the one before ends. Gate and up usually do in a file, and are then one matrix already.
bool are_neighbours(const std::vector<Tensor>& tensors) {
  for (size_t i = 1; i < tensors.size(); i++) {
    if (static_cast<const uint8_t*>(tensors[i - 1].raw()) + tensors[i - 1].bytes() != tensors[i].raw()) return false;
  }
  return true;
}

Tensor RenamedWeights::read(size_t index) const {
  const Source& source = sources_[index];
  const bool alone = source.tensors.size() == 1;
  const std::string& first = source.tensors[0]->name;
  if (source.less_one) return plus(file_->get(first), 1);
  if (alone && source.rows == NameRule::Rows::same) return file_->get(first);
  if (source.rows == NameRule::Rows::transposed) return transposed(file_->get(first));

  const TensorInfo& info = tensors()[index];
  std::vector<Tensor> stored;
  for (const TensorInfo* tensor : source.tensors) stored.push_back(file_->get(tensor->name).to(info.dtype));
  if (source.rows == NameRule::Rows::same && are_neighbours(stored)) {
    void* begin = stored[0].raw();
    return Tensor::wrap(begin, info.shape, info.dtype, std::make_shared<std::vector<Tensor>>(std::move(stored)));
  }
  const Tensor stacked = Tensor::empty(info.shape, info.dtype);
  int64_t begin = 0;
  for (size_t part = 0; part < source.parts.size(); part++) {
    const int64_t end = begin + source.parts[part];
    copy_rows(stacked.rows(begin, end), stored[alone ? 0 : part],
              [&](int64_t row) { return NameRule::stored_row(source.rows, part, row, head_dim_); });
    begin = end;
  }
  return stacked;
}

}  // namespace

std::unique_ptr<WeightReader> rename_weights(std::unique_ptr<WeightReader> file, const TensorNames& names,
                                             const Config& config, std::vector<std::string>& unused) {
  return std::make_unique<RenamedWeights>(std::move(file), names, config, unused);
}

}  // namespace supra
