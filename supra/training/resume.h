#pragma once
#include "supra/training/checkpoint.h"
#include "supra/training/train.h"

namespace supra {

RunFacts facts_of(const TrainOptions& options, const Corpus& corpus);

// Whether two runs have the same text in the same order. For a checkpoint of an older version only the length is compared.
bool same_text(const RunFacts& saved, const RunFacts& now);

// Throws Error naming the flag and what to do if a run may not continue a checkpoint: its options, text or products differ.
// accept_changes and accept_products allow other text and products. Returns notes for the user, one per line.
std::vector<std::string> check_resumes(const Path& checkpoint, const TrainingState& saved, const RunFacts& now,
                                       const TrainOptions& options);

}  // namespace supra
