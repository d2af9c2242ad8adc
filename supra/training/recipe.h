#pragma once
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "supra/training/loader.h"
#include "nn/decoder.h"

// How a linearized model is brought back to sense: stages one behind the other on the one training loop (train.h), each with
// an objective of its own. One file a recipe.

namespace supra {

class TeacherCache;

enum class RecipeKind {
  supra,     // the paper's: language-model loss on all weights, one stage
  transfer,  // attention transfer, then the language-model loss
  distill,   // calibration, attention transfer, then the teacher's distribution over the next token
  progressive  // the same, one layer behind the other, the least sensitive first
};

// As --recipe names it.
const char* name_of(RecipeKind kind);
// Whether it ends with the teacher's distribution.
inline bool distills(RecipeKind kind) { return kind == RecipeKind::distill || kind == RecipeKind::progressive; }

struct RecipeOptions {
  RecipeKind kind = RecipeKind::supra;
  double lr = 0;                 // of the last stage; 0: by the model's size
  double transfer_lr = 0;        // of the attention transfer; 0: by the model's width
  double transfer_share = 0.3;   // of all tokens; progressive: of a layer's
  double kl_weight = 1;          // distill: the rest is the language-model loss
  double z_loss = 1e-4;          // of the language-model loss
  std::optional<int64_t> calibrate_tokens;  // distill: 0 leaves the calibration out; none: by the model's size
  std::shared_ptr<TeacherCache> cache;  // distill: what the teacher says comes from here; null: it runs in every step

  // ---- of progressive
  int64_t keep_softmax_most = 0;  // layers left as the teacher's, the most sensitive ones
  double convert_share = 0.6;     // of all tokens: for making layers recurrent. The rest distills
  double convert_bound = 3;       // a layer may cost so many times the KL that swapping it alone costs; 0: anything
  std::vector<std::vector<int32_t>> held_out;  // sequences that KL is measured on
  std::function<void(int64_t done, int64_t of)> on_progress;  // of measuring the layers
};

// The states with which the rows of carried batches go on from one batch to the next. They have no history, so gradients
// end where a batch begins (truncated back-propagation through time). A state of no rows: no batch was read yet.
struct CarriedStates {
  State student, teacher;
};

struct Verdict {
  bool stays = true;
  std::string note;
};

struct Stage {
  std::string name;
  double share = 1;  // of the tokens
  double lr = 0;     // peak
  // The parameters it trains, by name; empty: all.
  std::function<bool(const std::string&)> trains;
  // Adds `weight` times the gradients of a batch's mean loss to the parameters, and returns that mean, (1), where the
  // model is. A carried batch goes on from these states and leaves its own there.
  std::function<Tensor(const Batch& batch, double weight, CarriedStates& carried)> learn;
  // Changes the model where the stage begins, and says what it did. It is called again where a run resumes right there.
  std::function<std::string(const std::vector<Batch>&)> begin;
  // Whether what was learned stays; else the model goes back to before the last begin(), which judge() has done for its shape. A
  // stage with this and without begin() continues the one before it. Without either, held-out loss decides.
  std::function<Verdict()> judge;
  std::function<bool()> skip;  // whether there is nothing to do in it: its tokens go to those behind
  double cost = 3;   // of a token, in forward passes of the model: an estimate, until steps of the stage were measured
};

struct Recipe {
  std::vector<Stage> stages;
  // Done once, before the first step, with some batches of the training data, and says what is to be noted; may be empty.
  std::function<std::string(const std::vector<Batch>&)> prepare;
  // What checkpoints keep of it, and back: before weights are read into the model. May be empty.
  std::function<std::string()> record;
  std::function<void(const std::string&)> restore;
};

// `teacher` may be null for `supra`, else it has the student's vocabulary and layers.
Recipe make_recipe(Decoder& student, const Decoder* teacher, const RecipeOptions& options);

// The state that a batch begins with, in `carried`; null where each of its rows begins anew.
State* past_of(const Batch& batch, const Decoder& decoder, State& carried);
// The hidden states (B,T,C) of a batch that begins there.
Var hidden_of(const Batch& batch, const Decoder& decoder, State& carried);

// ---- recipe_supra.cpp
Stage language_model_stage(const Decoder& student, const RecipeOptions& options);

// The learning rate of a recipe's last stage unless told otherwise: 3e-3 sqrt(260k / parameters), at most 3e-3. `supra` uses
// at least the paper's 3e-4, and 3e-5 above 3 billion parameters. `transfer` has no minimum: 3e-4 wrecked a calibrated student
// of 135 million in batches of 2,048 tokens. `distill` uses two thirds of `transfer`'s.
double default_lr(RecipeKind kind, Decoder& student);
// That of the attention transfer: 1e-2 at width 64, falling with the square of the width to 1e-4.
double default_transfer_lr(const Decoder& student);

// ---- recipe_transfer.cpp: every layer's mixer learns, from the teacher's inputs, to say what the teacher's says
//   loss = 1/L sum_l |A_l - T_l|^2 / |T_l|^2,  A_l, T_l: outputs of layer l's mixers (after out_proj) for one input
// Layers know nothing of each other: what is kept for backward is one layer's.
Stage transfer_stage(const Decoder& student, const Decoder& teacher, const RecipeOptions& options);

// ---- recipe_distill.cpp: KL(teacher || student) over the next token, (1 - kl_weight) of the language-model loss beside it
Stage distill_stage(const Decoder& student, const Decoder& teacher, const RecipeOptions& options);

// ---- recipe_progressive.cpp: the student begins as its teacher. Its layers become recurrent one by one, those first that cost the
// least KL where they alone are swapped: each is calibrated, then learns the teacher's attention from the student's stream, then
// all learn the teacher's distribution. What costs more than convert_bound allows is undone, and tried once more at the end. Of
// the student given, only the weights that linearization added are used.
Recipe progressive_recipe(Decoder& student, const Decoder& teacher, const RecipeOptions& options);

}  // namespace supra
