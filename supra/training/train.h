#pragma once
#include <functional>
#include <string>
#include <vector>

#include "nn/optim.h"
#include "supra/model.h"
#include "supra/training/loader.h"
#include "supra/training/recipe.h"

// The one training loop: a transformer from random weights, or a linearized one on its way back to sense, by any recipe.

namespace supra {

struct TrainOptions {
  int64_t tokens = 0;            // to train on in all
  int64_t sequence = 0;          // T; 0: the model's context, at most 512
  int64_t batch_tokens = 0;      // of an optimizer step; 0: four sequences
  Packing packing = Packing::stream;  // of documents into rows
  int64_t accumulate = 1;        // a step's batch goes through the model in this many parts
  bool recompute = false;        // activation checkpointing: backward computes every layer again
  RecipeOptions recipe;          // with the learning rates
  double min_lr = -1;            // last learning rate of every stage; below 0: a tenth of its peak
  double warmup = 0.05;          // of a stage's steps
  AdamwOptions adamw;
  bool decay_vectors = true;     // weight decay reaches norms and biases
  double new_lr = 1;             // factor on the learning rate of the weights that linearization added
  std::vector<std::string> only, freeze;  // name patterns of what is trained, of what is not; * matches anything
  double clip = 1;
  double outliers = 0;           // above 1: a step whose loss or gradient norm is above so many times the running mean is noted
  bool skip_outliers = false;    // and leaves the weights alone
  Schedule::Kind schedule = Schedule::Kind::cosine;
  uint64_t seed = 0;
  int64_t checkpoint_every = 0;  // tokens; 0: only at the end or when interrupted
  int64_t keep = 2;              // checkpoints, beside the best one
  int64_t validate_every = 0;    // tokens; 0: a fifth of all
  int64_t valid_tokens = 0;      // that a validation on the way scores; 0: see Timetable::sample()
  bool resume = false;
  bool accept_changes = false;   // a run resumes although its text is other text, or has another order
  bool accept_products = false;  // and although its matrix products have been computed in another way
  std::string made_by;           // the command line, or what else brings the run about again: kept in its checkpoints
};

// What one step shows.
struct TrainStep {
  int64_t step = 0, steps = 0, tokens = 0;
  std::string stage;
  double seconds = 0, loss = 0, grad_norm = 0, lr = 0, tokens_per_second = 0;
  double valid_nll = -1;         // on the sample; -1: not measured at this step
  double seconds_left = 0;       // see TimeLeft
};

struct TrainResult {
  int64_t tokens = 0, steps = 0;
  double loss = -1;              // mean of the last twentieth of the steps; -1 where no step was left to do
  double valid_nll = -1;         // on all held-out text; of an interrupted run the last one on the sample; -1: none
  double seconds = 0;
  double tokens_per_second = 0;  // of the steps alone, without validations and checkpoints
  bool interrupted = false;
  Path checkpoint;               // the last one written, empty if none
  std::vector<std::string> without_gradient;  // parameters that the first step of a stage did not reach
};

struct TrainHooks {
  // Nats a token on held-out text; empty: no validation. `tokens`: how many of them count, spread over the text and the same
  // ones at each call; 0: all.
  std::function<double(int64_t tokens)> validate;
  int64_t held_out_tokens = 0;                      // that there are; 0: not known, every validation is of all
  std::string held_out_hash;                        // of that text; a resumed run compares validations of the same text alone
  std::function<void(int64_t step)> on_start;       // once, with the step that the run begins or goes on behind
  std::function<void(const TrainStep&)> on_step;
  std::function<void(const std::string&)> on_note;  // one line: what was saved, resumed from, ...
  std::function<bool()> should_stop;                // asked between steps
};

// Fills in what was left to be decided; throws Error where the options contradict each other.
TrainOptions resolve(TrainOptions options, Decoder& decoder);

// Whether the patterns of `only` and `freeze` let a parameter be trained.
bool trains(const TrainOptions& options, const std::string& name);

// The stages of a run, and the step behind the last one of each.
std::vector<int64_t> stage_ends(const Recipe& recipe, int64_t steps);

// Optimizer steps of a run whose options are resolved.
int64_t step_count(const TrainOptions& options);

// Forward and backward of a step's batch in as many parts as there are carried states; returns the mean loss over its targets,
// (1), where the model is. The gradients stay, summed over the parts: those of the mean.
Tensor accumulate_gradients(const Stage& stage, const Batch& batch, std::vector<CarriedStates>& carried);

// Trains the model in place. If it has low-rank factors (Decoder::add_lora()), only these and the weights that linearization
// added are trained, and the factors are merged at the end. `directory` takes the checkpoints (checkpoints/step-N, see
// checkpoint.h) and, at the end, the model itself; unless the run resumes, checkpoints of an older run there are removed, once
// this one can begin.
// `teacher`: what recipes other than `supra` learn from. With validation, a stage that ends with a higher loss than it began
// with is undone; a stage that began without validation is judged by the first one after it resumed. A loss or gradient that
// is NaN or infinite throws Error naming the step, the tensor and what was saved last.
TrainResult train(Model& model, const Decoder* teacher, const Corpus& corpus, const TrainOptions& options,
                  const Path& directory, const TrainHooks& hooks = {});

}  // namespace supra
