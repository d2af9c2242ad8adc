#pragma once
#include "supra/training/checkpoint.h"
#include "supra/training/recipe.h"

// Saves the states of carried rows in a checkpoint: the student's and the teacher's, for each part of a batch.

namespace supra {

// The tensors for a checkpoint; empty if no rows are carried. `teacher` may be null.
NamedTensors carried_tensors(const Decoder& student, const Decoder* teacher, const std::vector<CarriedStates>& carried);

// Reads them back, with `rows` rows per part, if the checkpoint has any. Throws Error if it has another number of parts.
void read_carried_states(const Path& checkpoint, const Decoder& student, const Decoder* teacher, int64_t rows,
                         std::vector<CarriedStates>& carried);

}  // namespace supra
