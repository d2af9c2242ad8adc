#pragma once
#include <functional>
#include <string>
#include <vector>

#include "nn/optim.h"
#include "supra/model.h"
#include "supra/training/loader.h"
#include "supra/training/recipe.h"

// The training loop, for all recipes: trains a linearized model, or a transformer from random weights.

namespace supra {

struct TrainOptions {
  int64_t tokens = 0;            // total number of tokens to train on
  int64_t sequence = 0;          // T; 0: the model's context, at most 512
  int64_t batch_tokens = 0;      // tokens of an optimizer step; 0: four sequences
  Packing packing = Packing::stream;  // how documents are put into rows
  int64_t accumulate = 1;        // the batch of a step is computed in this many parts
  bool recompute = false;        // activation checkpointing: backward recomputes every layer
  RecipeOptions recipe;          // includes the learning rates
  double min_lr = -1;            // last learning rate of every stage; below 0: a tenth of its peak
  double warmup = 0.05;          // fraction of a stage's steps
  AdamwOptions adamw;
  bool decay_vectors = true;     // weight decay applies to norms and biases
  double new_lr = 1;             // factor on the learning rate of the weights that linearization added
  std::vector<std::string> only, freeze;  // name patterns of the parameters to train and not to train; * matches anything
  double clip = 1;
  double outliers = 0;           // above 1: steps whose loss or gradient norm exceeds the running mean by this factor are noted
  bool skip_outliers = false;    // such steps do not change the weights
  Schedule::Kind schedule = Schedule::Kind::cosine;
  uint64_t seed = 0;
  int64_t checkpoint_every = 0;  // tokens; 0: at the end, when interrupted, and where a stage begins that can be undone
  int64_t keep = 2;              // checkpoints to keep, besides the best one
  int64_t validate_every = 0;    // tokens; 0: a fifth of all
  int64_t valid_tokens = 0;      // tokens that a validation during the run scores; 0: see Timetable::sample()
  bool resume = false;
  bool accept_changes = false;   // resume even if the text or its order has changed
  bool accept_products = false;  // resume even if the precision of matrix products has changed
  std::string made_by;           // the command line, or another description of the run; stored in its checkpoints
};

// The report of one step.
struct TrainStep {
  int64_t step = 0, steps = 0, tokens = 0;
  std::string stage;
  double seconds = 0, loss = 0, grad_norm = 0, lr = 0, tokens_per_second = 0;
  double valid_nll = -1;         // on the validation sample; -1: not measured at this step
  double seconds_left = 0;       // see TimeLeft
};

struct TrainResult {
  int64_t tokens = 0, steps = 0;
  double loss = -1;              // mean of the last twentieth of the steps; -1 if no step was left to do
  double valid_nll = -1;         // on all held-out text; if the run was interrupted, the last one on the sample; -1: none
  double seconds = 0;
  double tokens_per_second = 0;  // of the steps only, without validations and checkpoints
  bool interrupted = false;
  Path checkpoint;               // the last one written, empty if none
  std::vector<std::string> without_gradient;  // parameters that had no gradient in the first step of a stage
};

struct TrainHooks {
  // Returns nats per token on held-out text. `tokens`: how many to score, always the same ones; 0: all. Empty: no validation.
  std::function<double(int64_t tokens)> validate;
  int64_t held_out_tokens = 0;                      // their number; 0: not known, every validation scores all
  std::string held_out_hash;                        // hash of that text; a resumed run compares only validations of the same text
  std::function<void(int64_t step)> on_start;       // called once, with the step after which the run starts or continues
  std::function<void(const TrainStep&)> on_step;
  std::function<void(const std::string&)> on_note;  // one line: a saved checkpoint, a resumed run, ...
  std::function<bool()> should_stop;                // called between steps
};

// Replaces defaults by values; throws Error if the options contradict each other.
TrainOptions resolve(TrainOptions options, Decoder& decoder);

// Whether `only` and `freeze` allow a parameter to be trained.
bool trains(const TrainOptions& options, const std::string& name);

// The number of optimizer steps of a run; the options must be resolved.
int64_t step_count(const TrainOptions& options);

// Forward and backward of a step's batch, in as many parts as there are carried states. Returns the mean loss (1).
Tensor accumulate_gradients(const Stage& stage, const Batch& batch, std::vector<CarriedStates>& carried);

// Trains the model in place. Of a model with low-rank factors (Decoder::add_lora()), only these and the weights that
// linearization added are trained, and the factors are merged at the end. Checkpoints are written to `directory`
// (checkpoint.h), and at the end the model. A run that does not resume removes the checkpoints of an older one.
// `teacher` is required by all recipes except `supra`. With validation, a stage that ends with a higher loss than it began
// with is undone. A loss or gradient that is NaN or infinite throws Error.
TrainResult train(Model& model, const Decoder* teacher, const Corpus& corpus, const TrainOptions& options,
                  const Path& directory, const TrainHooks& hooks = {});

}  // namespace supra
