#pragma once
#include <optional>

#include "nn/optim.h"
#include "supra/model.h"

namespace supra {

// A training checkpoint: a directory, complete or absent, that is also a model.
//   config.json, model.safetensors, tokenizer   the model
//   optimizer.safetensors                       moments: m.<name>, v.<name>
//   training.json                               everything in TrainingState
struct TrainingState {
  int64_t step = 0;      // optimizer steps done
  int64_t tokens = 0;    // tokens trained on
  int64_t position = 0;  // of the data stream
  double seconds = 0;    // spent so far
  uint64_t seed = 0;
  // What steps and position count in: a run that resumes must agree.
  int64_t batch_tokens = 0, sequence = 0, corpus_tokens = 0;
};

// Writes <run>/checkpoints/step-<step>, then removes the older ones but the last `keep`. Returns its path.
Path save_checkpoint(const Path& run, const Model& model, Adamw& optimizer, const TrainingState& state, int keep = 2);

// The newest complete checkpoint of a run, if there is one.
std::optional<Path> latest_checkpoint(const Path& run);

// Makes the run's directory itself a model: the checkpoint's, file by file, each replaced in one step.
void publish_checkpoint(const Path& checkpoint, const Path& run);

// Reads weights and moments back into a model and an optimizer of the same shape.
TrainingState load_checkpoint(const Path& checkpoint, Model& model, Adamw& optimizer);

}  // namespace supra
