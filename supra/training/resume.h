#pragma once
#include "supra/training/checkpoint.h"
#include "supra/training/train.h"

namespace supra {

RunFacts facts_of(const TrainOptions& options, const Corpus& corpus);

// Whether two runs have the same text in the same order. For a checkpoint of an older version only the length is compared.
bool same_text(const RunFacts& saved, const RunFacts& now);

// Checks that a run may continue from a checkpoint of another process: batch sizes, recipe, text and products must be the same.
// Throws Error naming the flag that differs and what to do. accept_changes allows other text or another order of it;
// accept_products allows other products. Returns notes for the user, one per line.
std::vector<std::string> check_resumes(const Path& checkpoint, const TrainingState& saved, const RunFacts& now,
                                       const TrainOptions& options);

}  // namespace supra
