#pragma once
#include "supra/evaluation/perplexity.h"
#include "supra/evaluation/planted_facts.h"
#include "supra/formats/json.h"

// How far back a model reaches, and by what: the tables of `supra eval --mixer-parts` and `supra eval --recall`.

namespace supra {

// A list of {"from","to","tokens","nll"}.
Json to_json(const std::vector<Band>& by_position);

struct RecallAt {
  int64_t distance;
  FactRecall recall;
};
// A list of {"distance","accuracy","rank"} and more.
Json to_json(const std::vector<RecallAt>& recall);

// A row for each part of the model's window layers, and for the teacher where there is one.
int eval_mixer_parts(const Model& model, const Model* teacher, const Path& text, TextOptions options, bool json);

// A row for the model, one for its windows alone where it has a far state, and one for the teacher where there is one. Without
// distances: 2, 4 and 8 times the longest window.
int eval_recall(const Model& model, const Model* teacher, const Path& filler, std::vector<int64_t> distances, const FactOptions& options, bool json);

}  // namespace supra
