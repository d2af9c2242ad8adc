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
//   memory.safetensors                          the states of carried rows; absent where none are carried
//   training.json                               everything in TrainingState
struct TrainingState {
  int64_t step = 0;          // optimizer steps done
  int64_t tokens = 0;        // tokens trained on
  int64_t position = 0;      // of the data stream
  double seconds = 0;        // spent so far
  int64_t stage = 0;         // of the recipe
  std::string stage_name;    // empty in checkpoints of older versions
  int64_t stage_begin = 0;   // its first step
  int64_t stage_tokens = 0;  // trained on before it
  int64_t stage_steps = 0;   // updates of the weights in it
  double stage_nll = -1;     // validation at undo_step; -1: none, or it was not finite
  int64_t undo_step = -1;    // the stage is undone to here: that checkpoint is kept; -1: no validation yet
  double mean_loss = 0, mean_norm = 0;  // running, see TrainOptions::outliers
  int64_t valid_tokens = 0;             // that a validation scores; 0: all that are held out
  std::string held_out;                 // hash of the held-out text; empty: not known
  double valid_nll = -1;                // nats a token on held-out text after this step; -1: not measured
  uint64_t seed = 0;
  // What steps and position count in, and what is learned from: a run that resumes must agree (resume.h).
  int64_t batch_tokens = 0, sequence = 0, corpus_tokens = 0;
  std::string packing;
  std::string recipe, corpus;  // the recipe's name, the text's hash; empty in checkpoints of older versions
  std::string products = "f32";  // of the CPU (kernels/products.h)
  std::string made_by;         // the command line, or what else brings it about again

  bool operator==(const TrainingState&) const = default;
};

// Writes <run>/checkpoints/step-<step>, flushed to the disk, then removes all but the last `keep`, the best
// and the one that the stage is undone to. Returns its path. Killed at any instant, or failing (the Error
// says so), it leaves those that were there. One process at a time may write to a run: hold a FileLock.
Path save_checkpoint(const Path& run, const Model& model, Optimizer& optimizer, const TrainingState& state,
                     int keep = 2, const NamedTensors& carried = {});

// The newest complete checkpoint of a run, if there is one.
std::optional<Path> latest_checkpoint(const Path& run);

// The complete checkpoint with the lowest validation loss, the newer of equals; none where no loss was
// measured. Only those count that were measured on the text, and the sample, of the newest such one.
std::optional<Path> best_checkpoint(const Path& run);

// Removes all checkpoints of a run, the newest last. What else is in their folder stays.
void remove_checkpoints(const Path& run);

// Makes the run's directory itself the checkpoint's model. If it already holds a model of the same shape and
// tokenizer, readers see the old one or the new one, never a mixture. Otherwise it has no config.json while
// files are copied. No other file is removed: one that would be read instead of what is published (an index
// of shards, another tokenizer) is renamed to NAME.replaced. Returns what was renamed.
std::vector<Path> publish_checkpoint(const Path& checkpoint, const Path& run);

// Where the checkpoint of a step is, or would be.
Path checkpoint_path(const Path& run, int64_t step);

TrainingState read_training_state(const Path& checkpoint);

// The states of a checkpoint's carried rows; null where it has none.
std::unique_ptr<WeightReader> open_carried_states(const Path& checkpoint);

// Reads weights and moments back into a model and an optimizer of the same shape.
TrainingState load_checkpoint(const Path& checkpoint, Model& model, Optimizer& optimizer);

}  // namespace supra
