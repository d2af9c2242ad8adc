#pragma once
#include "supra/evaluation/mixer_parts.h"
#include "supra/evaluation/perplexity.h"
#include "supra/evaluation/planted_facts.h"
#include "supra/formats/parse/json.h"
#include "supra/model.h"

// How much older text a model uses, and by which part: the tables of `supra eval --mixer-parts` and `--recall` (recall.cpp).

namespace supra {

// A list of {"from","to","tokens","nll"}.
Json to_json(const std::vector<Band>& by_position);

// {"recall":[{"distance","accuracy","stderr","rank",...}],"recall_among":[...],"repetition":[{"distance","first","second","gain",...}]}
Json to_json(const std::vector<RecallAt>& recall);

// The number of keys in a model's longest window; 0 if it has none.
int64_t longest_window(const Config& config);

// The teacher, if there is one, followed by the parts of its student. Throws Error if their vocabularies differ.
std::vector<PartsVariant> with_teacher(const Model* teacher, const Config& student, std::vector<PartsVariant> rows);

// A row for each part of the model's window layers, and for the teacher if there is one.
int eval_mixer_parts(const Model& model, const Model* teacher, const Path& text, TextOptions options, bool json);

// A row for the model, one for its windows alone if it has a far state, and one for the teacher if there is one. The default
// distances are 64, 128, ... 8,192, as far as the text and the positions of softmax models allow.
int eval_recall(const Model& model, const Model* teacher, const Path& text, std::vector<int64_t> distances, const FactOptions& options, bool json);

}  // namespace supra
