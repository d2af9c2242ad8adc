#pragma once
#include "supra/training/checkpoint.h"
#include "supra/training/train.h"

namespace supra {

// Whether a checkpoint was trained on this run's text in the same order. For an older version only the length is compared.
bool same_text(const TrainingState& saved, const TrainingState& now);

// Checks that a run may continue from a checkpoint of another process: batch sizes, recipe, text and products must be the
// same. `now`: the state of this run before its first step. Throws Error naming the flag that differs and what to do.
// accept_changes allows other text or another order of it; accept_products allows other products. Returns notes for
// the user, one per line.
std::vector<std::string> check_resumes(const Path& checkpoint, const TrainingState& saved, const TrainingState& now,
                                       const TrainOptions& options);

}  // namespace supra
