#pragma once
#include <memory>
#include <optional>

#include "nn/optim.h"
#include "supra/formats/weights.h"
#include "supra/model.h"

namespace supra {

// A training checkpoint: a directory, complete or absent, that is also a model.
//   config.json, model.safetensors, tokenizer   the model
//   optimizer.safetensors                       moments: m.<name>, v.<name>
//   memory.safetensors                          what rows that are carried remember; else it is not there
//   training.json                               everything in TrainingState
struct TrainingState {
  int64_t step = 0;                     // optimizer steps done
  int64_t tokens = 0;                   // tokens trained on
  int64_t position = 0;                 // of the data stream
  double seconds = 0;                   // spent so far
  int64_t stage = 0;                    // of the recipe
  int64_t stage_begin = 0;              // its first step: the checkpoint there is kept
  int64_t stage_steps = 0;              // updates of the weights in it
  double stage_nll = -1;                // validation where it began
  double mean_loss = 0, mean_norm = 0;  // running, see TrainOptions::outliers
  double valid_nll = -1;                // nats a token on held-out text after this step; -1: not measured
  uint64_t seed = 0;
  // What steps and position count in: a run that resumes must agree.
  int64_t batch_tokens = 0, sequence = 0, corpus_tokens = 0;
  std::string packing;
  std::string made_by;  // the command line, or what else brings it about again

  bool operator==(const TrainingState&) const = default;
};

// Writes <run>/checkpoints/step-<step>, flushed to the disk, then removes all but the last `keep`, the best
// and the one where the stage began. Returns its path. Killed at any instant, or failing (the Error says so),
// it leaves those that were there. One process at a time may write to a run: hold a FileLock.
Path save_checkpoint(const Path& run, const Model& model, Optimizer& optimizer, const TrainingState& state,
                     int keep = 2, const NamedTensors& memory = {});

// The newest complete checkpoint of a run, if there is one.
std::optional<Path> latest_checkpoint(const Path& run);

// The complete checkpoint with the lowest validation loss, the newer of equals; none where no loss was
// measured.
std::optional<Path> best_checkpoint(const Path& run);

// Removes all checkpoints of a run, at once.
void remove_checkpoints(const Path& run);

// Makes the run's directory itself the checkpoint's model. Where it was that of a run of the same shape and
// tokenizer, it is at any instant the old one or the new one; otherwise it is no model in between.
void publish_checkpoint(const Path& checkpoint, const Path& run);

// Where the checkpoint of a step is, or would be.
Path checkpoint_path(const Path& run, int64_t step);

TrainingState read_training_state(const Path& checkpoint);

// The memory of a checkpoint; null where it has none.
std::unique_ptr<WeightReader> open_memory(const Path& checkpoint);

// Reads weights and moments back into a model and an optimizer of the same shape.
TrainingState load_checkpoint(const Path& checkpoint, Model& model, Optimizer& optimizer);

}  // namespace supra
