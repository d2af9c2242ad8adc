#pragma once
#include <cstdint>
#include <string>

#include "supra/formats/file.h"

namespace supra {

// The options and the text of a run that may not change when it resumes (training/resume.h).
struct RunFacts {
  uint64_t seed = 0;
  int64_t batch_tokens = 0, sequence = 0, corpus_tokens = 0;
  std::string packing;
  std::string recipe, corpus;    // the recipe's name, the text's hash; empty in checkpoints of older versions
  std::string products = "f32";  // of the CPU (kernels/products.h)

  bool operator==(const RunFacts&) const = default;
};

// The progress of a training run: training.json of a checkpoint (training/checkpoint.h).
struct TrainingState {
  RunFacts facts;
  int64_t step = 0;          // optimizer steps done
  int64_t tokens = 0;        // tokens trained on
  int64_t position = 0;      // of the data stream
  double seconds = 0;        // so far
  int64_t stage = 0;         // index in the recipe
  std::string stage_name;    // empty in checkpoints of older versions
  int64_t stage_begin = 0;   // its first step
  int64_t stage_tokens = 0;  // trained on before it
  int64_t stage_steps = 0;   // updates of the weights in it
  double stage_nll = -1;     // validation loss at undo_step; -1: not measured, or not finite
  int64_t undo_step = -1;    // undoing the stage returns to this checkpoint, which is kept; -1: no validation yet
  double mean_loss = 0, mean_norm = 0;  // running, see TrainOptions::outliers
  int64_t valid_tokens = 0;             // that a validation scores; 0: all of the held-out text
  std::string held_out;                 // hash of the held-out text; empty: not known
  double valid_nll = -1;                // nats a token on held-out text after this step; -1: not measured
  std::string record;                   // the recipe's own text (Recipe::record)
  std::string made_by;                  // the command line, or another description of the run

  bool operator==(const TrainingState&) const = default;
};

// Writes it into the directory of a checkpoint.
void write_training_state(const Path& checkpoint, const TrainingState& state);
TrainingState read_training_state(const Path& checkpoint);

}  // namespace supra
