#pragma once
#include <string>
#include <vector>

namespace supra {

// A family of checkpoints is a table of names: what each canonical tensor (parameters.h) is called in its files, and
// how its rows lie there. '#' is the number of the layer. A path that has no rule keeps its name. ".weight" or ".bias"
// is appended unchanged. Several rules for one canonical name are tried in order.
struct NameRule {
  enum class Rows {
    same,
    transposed,  // (in, out): GPT-2's Conv1D
    by_head,     // q, k and v of head 0, then of head 1, ...: GPT-NeoX
    neighbours,  // of q and k: the rotary pairs (i, i + head_dim/2) of a head as rows 2i and 2i + 1: GGUF's Llama
  };
  std::string canonical;
  std::vector<std::string> stored;  // stacked on top of one another, where there are several
  Rows rows = Rows::same;

  // Where row `row` of q (part 0), k (1) or v (2) stands in the tensor that holds it.
  static int64_t stored_row(Rows rows, size_t part, int64_t row, int64_t head_dim);
};

struct Family {
  std::vector<NameRule> rules;
  std::vector<std::string> prefixes;  // that wrappers of modules leave in front of names
  std::vector<std::string> buffers;   // endings of tensors that are no weights: the config says what they hold
  bool gains_less_one = false;        // norms' weights are stored less 1: Gemma
};

// Whether a stored weight is 1 less than the decoder's.
bool is_less_one(const Family& family, const std::string& canonical);

// The rules for one canonical tensor, with the whole names of its sources; its own name where there are none.
std::vector<NameRule> rules_for(const Family& family, const std::string& canonical);

Family openlm_family();                               // canonical but for prefixes
Family meta_family();                                 // Meta's names, as llama2c.h gives them
Family hf_family(const std::string& model_type);      // of hf_config.h
Family gguf_family(const std::string& architecture);  // of gguf_config.h
bool gguf_turns_rows(const std::string& architecture);  // whether q and k have rows as pairs of neighbours

}  // namespace supra
