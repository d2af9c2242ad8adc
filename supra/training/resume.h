#pragma once
#include "supra/training/checkpoint.h"
#include "supra/training/train.h"

namespace supra {

// Whether a checkpoint was trained on this run's text, in its order. One of an older version is known by its length alone.
bool same_text(const TrainingState& saved, const TrainingState& now);

// Whether a run may go on from a checkpoint that another process wrote: what counts its steps and what it learns from must
// be the same. `now`: the state of this run before its first step. Throws Error naming the flag that differs and what to do.
// With accept_changes, other text or another order of it is no error; with accept_products, other products. Returns notes
// for the user, one a line.
std::vector<std::string> check_resumes(const Path& checkpoint, const TrainingState& saved, const TrainingState& now,
                                       const TrainOptions& options);

}  // namespace supra
