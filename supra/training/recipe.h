#pragma once
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "supra/training/loader.h"
#include "nn/decoder.h"

// Recipes: how a linearized model is trained. A recipe is a list of stages, which run one after the other in the same training
// loop (train.h), each with its own objective. Each recipe has its own file.

namespace supra {

class TeacherCache;

enum class RecipeKind {
  supra,     // the paper's: language-model loss on all weights, one stage
  transfer,  // attention transfer, then the language-model loss
  distill,   // calibration, attention transfer, then the teacher's distribution over the next token
  progressive  // the same, one layer at a time, the least sensitive first
};

// The name as in --recipe.
const char* name_of(RecipeKind kind);
// Whether its last stage learns the teacher's distribution.
inline bool distills(RecipeKind kind) { return kind == RecipeKind::distill || kind == RecipeKind::progressive; }

struct RecipeOptions {
  RecipeKind kind = RecipeKind::supra;
  double lr = 0;                 // peak of the last stage; 0: by the model's size
  double transfer_lr = 0;        // peak of the attention transfer; 0: by the model's width
  double transfer_share = 0.3;   // fraction of all tokens; progressive: of a layer's tokens
  double kl_weight = 1;          // distill: weight of the KL; the rest is the language-model loss
  double z_loss = 1e-4;          // of the language-model loss
  std::optional<int64_t> calibrate_tokens;  // distill: 0: no calibration; none: by the model's size
  std::shared_ptr<TeacherCache> cache;  // distill: source of the teacher's predictions; null: the teacher runs in every step

  // ---- for progressive
  int64_t keep_softmax_most = 0;  // so many of the most sensitive layers keep the teacher's attention
  double convert_share = 0.6;     // fraction of all tokens for making layers recurrent; the rest distills
  double convert_bound = 3;       // the largest KL of a layer, as a multiple of the KL when it alone is replaced; 0: no limit
  std::vector<std::vector<int32_t>> held_out;  // sequences on which KL is measured
  std::function<void(int64_t done, int64_t of)> on_progress;  // called while layers are measured
};

// The states from which the rows of a carried batch continue, without history (truncated back-propagation through time).
// Before the first batch they have no rows.
struct CarriedStates {
  State student, teacher;
};

struct Verdict {
  bool stays = true;
  std::string note;
};

struct Stage {
  std::string name;
  double share = 1;  // fraction of the tokens
  double lr = 0;     // peak
  double cost = 3;   // of a token, in forward passes of the model; an estimate until steps of the stage were measured
  // Whether a parameter is trained, by name; empty: all are.
  std::function<bool(const std::string&)> trains;
  // Adds `weight` times the gradients of a batch's mean loss to the parameters, and returns the mean loss (1). A carried batch
  // continues from these states and replaces them.
  std::function<Tensor(const Batch& batch, double weight, CarriedStates& carried)> learn;
  // Changes the model at the beginning of the stage and returns a note. Called again if a run resumes at that point.
  std::function<std::string(const std::vector<Batch>&)> begin;
  // Decides whether the result stays. If not, it restores the shape, and the loop then restores the weights from before the
  // last begin(). A stage with judge() but no begin() continues the previous stage. Without both, the held-out loss decides.
  std::function<Verdict()> judge;
  std::function<bool()> skip;  // whether the stage has nothing to do; later stages then get its tokens
};

struct Recipe {
  std::vector<Stage> stages;
  // Called once before the first step, with some batches of the training data; returns a note. May be empty, like the others.
  std::function<std::string(const std::vector<Batch>&)> prepare;
  // Returns the recipe's text for checkpoints, and restores it, before weights are read into the model.
  std::function<std::string()> record;
  std::function<void(const std::string&)> restore;
};

// `teacher` may be null for `supra`; otherwise it must have the student's vocabulary and layers.
Recipe make_recipe(Decoder& student, const Decoder* teacher, const RecipeOptions& options);

// The state at the beginning of a batch, in `carried`; null if all of its rows start from an empty state.
State* past_of(const Batch& batch, const Decoder& decoder, State& carried);
// The hidden states (B,T,C) of a batch that starts from these states.
Var hidden_of(const Batch& batch, const Decoder& decoder, State& carried);

// ---- recipe_supra.cpp
Stage language_model_stage(const Decoder& student, const RecipeOptions& options);

// The default learning rate of a recipe's last stage: 3e-3 sqrt(260k / parameters), at most 3e-3. `supra` uses at least the
// paper's 3e-4, and 3e-5 above 3 billion parameters. `distill` uses two thirds of `transfer`'s.
double default_lr(RecipeKind kind, Decoder& student);
// The default of the attention transfer: 1e-2 at width 64, falling with the square of the width to 1e-4.
double default_transfer_lr(const Decoder& student);

// ---- recipe_transfer.cpp: every layer's mixer learns the output of the teacher's mixer, on the teacher's inputs
//   loss = 1/L sum_l |A_l - T_l|^2 / |T_l|^2,  A_l, T_l: outputs of layer l's mixers (after out_proj) for one input
Stage transfer_stage(const Decoder& student, const Decoder& teacher, const RecipeOptions& options);

// ---- recipe_distill.cpp: kl_weight KL(teacher || student) over the next token + (1 - kl_weight) language-model loss
Stage distill_stage(const Decoder& student, const Decoder& teacher, const RecipeOptions& options);

// ---- recipe_progressive.cpp: the student begins as its teacher, and its layers become recurrent one at a time, the least
// sensitive first. Each is calibrated, then learns the teacher's attention on the student's inputs, then all layers learn the
// teacher's distribution. A layer that costs more than convert_bound allows is undone, and tried once more at the end.
Recipe progressive_recipe(Decoder& student, const Decoder& teacher, const RecipeOptions& options);

}  // namespace supra
