#pragma once
#include <string>
#include <vector>

#include "supra/formats/parameters.h"
#include "supra/formats/weights.h"

namespace supra {

// A family of checkpoints is a table of names: what each canonical tensor is called in its files. '#' is the
// number of the layer. Paths without a row are called the same; ".weight" and ".bias" follow as in the
// canonical name.
struct NameRule {
  std::string canonical;
  std::vector<std::string> stored;  // stacked on top of one another, where there are several
};

struct Family {
  std::vector<NameRule> rules;
  std::vector<std::string> prefixes;  // that wrappers of modules leave in front of names
};

const Family& llama_family();   // Hugging Face's Llama and Mistral
const Family& meta_family();    // Meta's names, as llama2.c.h gives them
const Family& openlm_family();  // canonical but for prefixes

// The tensors of `file` under canonical names, stacked where the family keeps apart what the decoder has in
// one matrix. `unused` takes the names of the tensors that no parameter asks for. Throws Error that lists the
// missing tensors, or names one whose shape is another.
std::unique_ptr<WeightReader> rename_weights(std::unique_ptr<WeightReader> file, const Family& family,
                                             const std::vector<Parameter>& parameters,
                                             std::vector<std::string>& unused);

}  // namespace supra
