#pragma once
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "nn/config.h"

namespace supra {

// What one canonical tensor (parameters.h) is called in the files of a family, and the order of its rows there. '#' stands for
// the number of the layer. ".weight" or ".bias" is appended unchanged.
struct NameRule {
  enum class Rows {
    same,
    transposed,  // (in, out): GPT-2's Conv1D
    by_head,     // q, k and v of head 0, then of head 1, ...: GPT-NeoX
    neighbours,  // in q and k, the rotary pair (i, i + head_dim/2) of a head is rows 2i and 2i + 1: GGUF's Llama
  };
  std::string canonical;
  std::vector<std::string> stored;  // one tensor, or several that are stacked
  Rows rows = Rows::same;

  // The row of the stored tensor that holds row `row` of q (part 0), k (1) or v (2).
  static int64_t stored_row(Rows rows, size_t part, int64_t row, int64_t head_dim);
};

// All names of a family. A path without a rule keeps its name. Several rules for one tensor are tried in order.
struct TensorNames {
  std::vector<NameRule> rules;
  std::vector<std::string> prefixes;  // that wrappers of modules put before names
  std::vector<std::string> buffers;   // endings of tensors that are not weights: the config has their contents
  bool gains_less_one = false;        // norm weights are stored less 1: Gemma

  bool is_less_one(const std::string& canonical) const { return gains_less_one && canonical.ends_with("norm.weight"); }
  // The rules for one canonical tensor, with the complete names of its sources; its own name if there are none.
  std::vector<NameRule> rules_for(const std::string& canonical) const;
};

// A rule as a row of a table. `stored` has a space between stacked tensors.
struct NameRow {
  const char *canonical, *stored;
  NameRule::Rows rows = NameRule::Rows::same;
};

// A family of transformers: everything about it that is not in its files. One row of the table in families.cpp.
struct Family {
  const char* type;               // model_type in config.json
  const char* architecture = "";  // general.architecture in a GGUF; "": not written to one under its own name
  const char* model_class;        // in transformers
  NormConfig norm = {};
  MlpKind mlp = MlpKind::swiglu;
  Gelu gelu = Gelu::erf;  // in a GGUF; config.json names it
  QkNorm qk_norm = QkNorm::none;
  Residual residual = Residual::pre_norm;
  int64_t period = 0;   // layers with a window: 0: none in a GGUF, all in config.json; 1: all; n: all but every n-th
  int64_t largest = 0;  // the Gemma model with this many layers scales scores by width / heads
  // transformers' defaults for keys that old files leave out
  int64_t context = 2048;
  int64_t kv_heads = 0;  // 0: as many as heads
  int64_t head_dim = 0;  // 0: width / heads
  int64_t window = -1;   // 0: none; -1: the family has no windows
  double eps = 1e-6, base = 10000;
  const char* eps_key = "rms_norm_eps";
  bool tied = false, qkv_bias = false;
  bool by_name = false;  // --to hf chooses it by name, not by the features of a config
  // names, and those that replace some of them
  std::span<const NameRow> names = {}, own = {}, own_gguf = {};  // no `names`: a Llama's
  const char* prefix = "model.";
  bool neighbours = false;      // a GGUF has q and k with NameRule::Rows::neighbours
  bool gains_less_one = false;  // in config.json's format; a GGUF has complete gains

  bool is(std::string_view model_type) const { return model_type == type; }
  Config config() const;  // with the fields above that no file names
};

std::span<const Family> families();
// By its type or its architecture. Throws Error that lists the known ones.
const Family& family_by(const char* Family::*key, std::string_view name, const std::string& where);

TensorNames openlm_names();  // canonical, but for prefixes
TensorNames meta_names();    // Meta's, as llama2c.h gives them
TensorNames hf_names(const Family& family);
TensorNames gguf_names(const Family& family);

}  // namespace supra
