#pragma once
#include "supra/evaluation/mixer_parts.h"
#include "supra/evaluation/perplexity.h"
#include "supra/evaluation/planted_facts.h"
#include "supra/formats/json.h"
#include "supra/model.h"

// How far back a model reaches, and by what: the tables of `supra eval --mixer-parts` and, in recall.cpp, `supra eval --recall`.

namespace supra {

// A list of {"from","to","tokens","nll"}.
Json to_json(const std::vector<Band>& by_position);

// {"recall":[{"distance","accuracy","stderr","rank",...}],"recall_among":[...],"repetition":[{"distance","first","second","gain",...}]}
Json to_json(const std::vector<RecallAt>& recall);

// Keys of the longest window of a model; 0 where it has none.
int64_t longest_window(const Config& config);

// The teacher, where there is one, before the parts of its student. Throws Error where their vocabularies differ.
std::vector<PartsVariant> with_teacher(const Model* teacher, const Config& student, std::vector<PartsVariant> rows);

// A row for each part of the model's window layers, and for the teacher where there is one.
int eval_mixer_parts(const Model& model, const Model* teacher, const Path& text, TextOptions options, bool json);

// A row for the model, one for its windows alone where it has a far state, and one for the teacher where there is one. Without
// distances: 64, 128, ... 8,192, as far as the text and the softmax models reach.
int eval_recall(const Model& model, const Model* teacher, const Path& text, std::vector<int64_t> distances, const FactOptions& options, bool json);

}  // namespace supra
