#pragma once
#include "supra/training/checkpoint.h"
#include "supra/training/recipe.h"

// The states of carried rows in a checkpoint: those of the student and of the teacher, of each part of a batch.

namespace supra {

// What a checkpoint holds of them; nothing where no rows are carried. `teacher` is null where there is none.
NamedTensors carried_tensors(const Decoder& student, const Decoder* teacher, const std::vector<CarriedStates>& carried);

// Reads them back, of `rows` rows a part, if the checkpoint has any. Throws Error where it has another number of parts.
void read_carried_states(const Path& checkpoint, const Decoder& student, const Decoder* teacher, int64_t rows,
                         std::vector<CarriedStates>& carried);

}  // namespace supra
