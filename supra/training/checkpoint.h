#pragma once
#include <optional>

#include "nn/optim.h"
#include "supra/formats/training_state.h"
#include "supra/formats/weights/weights.h"
#include "supra/model.h"
#include "supra/training/recipe.h"

namespace supra {

// A training checkpoint: a directory, complete or absent, that is also a model.
//   config.json, model.safetensors, tokenizer   the model
//   optimizer.safetensors                       moments: m.<name>, v.<name>
//   memory.safetensors                          the states of carried rows; absent if none are carried
//   training.json                               everything in TrainingState (formats/training_state.h)

// Writes <run>/checkpoints/step-<step>, then removes all but the last `keep`, the best, and the one to which the stage can be
// undone. Returns its path. If the process is killed, or writing fails, the older ones are intact. Hold a FileLock of the run.
Path save_checkpoint(const Path& run, const Model& model, Optimizer& optimizer, const TrainingState& state, int64_t keep = 2,
                     const NamedTensors& carried = {});

// The newest complete checkpoint of a run, if any.
std::optional<Path> latest_checkpoint(const Path& run);

// The complete checkpoint with the lowest validation loss, of those measured on the same text and sample as the newest.
std::optional<Path> best_checkpoint(const Path& run);

// Removes all checkpoints of a run, the newest last. Other files in their folder stay.
void remove_checkpoints(const Path& run);

// Makes the run's directory itself the checkpoint's model. Readers see the old one, the new one or none (no config.json while
// files are copied), never a mixture. A file that would be read instead of the published model (an index of shards, another
// tokenizer) is renamed to NAME.replaced. Returns the renamed files.
std::vector<Path> publish_checkpoint(const Path& checkpoint, const Path& run);

// The path of a step's checkpoint, whether it exists or not.
Path checkpoint_path(const Path& run, int64_t step);

// Reads weights and moments back into a model and an optimizer of the same shape.
TrainingState load_checkpoint(const Path& checkpoint, Model& model, Optimizer& optimizer);

// The states of the carried rows of each part of a batch, for save_checkpoint(); may be none. `teacher` may be null.
NamedTensors carried_tensors(const Decoder& student, const Decoder* teacher, const std::vector<CarriedStates>& carried);

// Reads them back, with `rows` rows per part, if the checkpoint has any. Throws Error if it has another number of parts.
void read_carried_states(const Path& checkpoint, const Decoder& student, const Decoder* teacher, int64_t rows,
                         std::vector<CarriedStates>& carried);

}  // namespace supra
