#pragma once
#include <functional>
#include <string>
#include <vector>

#include "nn/optim.h"
#include "supra/model.h"
#include "supra/training/loader.h"

// The one training loop: a transformer from random weights, or a linearized one on its way back to sense. The loss is
// next-token cross entropy on all weights, in one stage: SUPRA's own recipe.

namespace supra {

struct TrainOptions {
  int64_t tokens = 0;            // to train on in all
  int64_t sequence = 0;          // T; 0: the model's context, at most 512
  int64_t batch_tokens = 0;      // of an optimizer step; 0: four sequences
  int64_t accumulate = 1;        // a step's batch goes through the model in this many parts
  double lr = 0, min_lr = -1;    // 0, -1: by the model's size, see default_lr(); a tenth of lr
  int64_t warmup = -1;           // steps; -1: a twentieth of all
  AdamwOptions adamw;
  double clip = 1, z_loss = 1e-4;
  Schedule::Kind schedule = Schedule::Kind::cosine;
  uint64_t seed = 0;
  int64_t checkpoint_every = 0;  // tokens; 0: only at the end or when interrupted
  int64_t validate_every = 0;    // tokens; 0: a fifth of all
  bool resume = false;
};

// What one step shows.
struct TrainStep {
  int64_t step = 0, steps = 0, tokens = 0;
  double seconds = 0, loss = 0, grad_norm = 0, lr = 0, tokens_per_second = 0;
  double valid_nll = -1;         // -1: not measured at this step
};

struct TrainResult {
  int64_t tokens = 0, steps = 0;
  double loss = -1;              // mean of the last twentieth of the steps; -1 where no step was left to do
  double valid_nll = -1, seconds = 0, tokens_per_second = 0;
  bool interrupted = false;
  Path checkpoint;               // the last one written, empty if none
  std::vector<std::string> without_gradient;  // parameters that the first step did not reach
};

struct TrainHooks {
  std::function<double()> validate;                 // nats a token on held-out text; empty: no validation
  std::function<void(const TrainStep&)> on_step;
  std::function<void(const std::string&)> on_note;  // one line: what was saved, resumed from, ...
  std::function<bool()> should_stop;                // asked between steps
};

// The learning rate a model of this size is trained with unless told otherwise: 3e-3 at 260 thousand parameters, falling
// with the square root of the size to the paper's 3e-4 (below 3 billion) and 3e-5 (above).
double default_lr(int64_t parameters);

// Fills in what was left to be decided; throws Error where the options contradict each other.
TrainOptions resolve(TrainOptions options, Decoder& decoder);

// Optimizer steps of a run whose options are resolved.
int64_t step_count(const TrainOptions& options);

// Forward and backward of a step's batch, in o.accumulate parts; returns the mean loss. The gradients stay, summed over
// the parts.
double accumulate_gradients(const Decoder& decoder, BatchLoader& loader, const TrainOptions& o);

// Trains the model in place. `directory` takes the checkpoints (checkpoints/step-N, see checkpoint.h) and, at the end,
// the model itself; unless the run resumes, checkpoints of an older run there go first. A loss or gradient that is no
// number throws Error naming the step and what was saved last.
TrainResult train(Model& model, const Corpus& corpus, const TrainOptions& options, const Path& directory,
                  const TrainHooks& hooks = {});

}  // namespace supra
