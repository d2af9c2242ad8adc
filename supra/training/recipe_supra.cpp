#include <algorithm>
#include <cmath>

#include "supra/training/calibrate.h"
#include "supra/training/recipe.h"

namespace supra {

const char* name_of(RecipeKind kind) {
  static const char* const names[] = {"supra", "transfer", "distill", "progressive"};  // in the order of RecipeKind
  return names[static_cast<int>(kind)];
}

double default_lr(RecipeKind kind, Decoder& student) {
  const double parameters = static_cast<double>(student.parameter_count());
  const double by_size = 3e-3 * std::sqrt(std::min(1.0, 260e3 / parameters));
  if (kind == RecipeKind::supra) return parameters > 3e9 ? 3e-5 : std::max(by_size, 3e-4);
  if (kind == RecipeKind::transfer) return by_size;
  if (is_window_student(student.config())) return by_size * 3 / 2;
  // A recurrent student begins far from its teacher: SmolLM2-135M trains at 3e-4, and 1e-3 harms it.
  return std::max(by_size * 2 / 3, has_head_states(student.config()) ? 3e-4 * std::min(1.0, std::sqrt(135e6 / parameters)) : 0);
}

double default_transfer_lr(const Decoder& student) {
  const double ratio = 64 / static_cast<double>(student.config().width);
  return std::clamp(1e-2 * ratio * ratio, 1e-4, 1e-2);
}

State* past_of(const Batch& batch, const Decoder& decoder, State& carried) {
  if (batch.goes_on.empty()) return nullptr;
  if (carried.batch() == 0) carried = decoder.init_state(batch.tokens.dim(0));
  for (size_t b = 0; b < batch.goes_on.size(); b++) {
    if (!batch.goes_on[b]) carried.reset_row(static_cast<int64_t>(b));
  }
  return &carried;
}

Var hidden_of(const Batch& batch, const Decoder& decoder, State& carried) {
  return decoder.hidden(batch.tokens, past_of(batch, decoder, carried), batch.lengths, batch.cuts);
}

Stage language_model_stage(const Decoder& student, const RecipeOptions& options) {
  Stage stage;
  stage.name = "text";
  stage.lr = options.lr;
  stage.learn = [&student, z_loss = options.z_loss](const Batch& batch, double weight, CarriedStates& carried) {
    const Var loss = student.loss(hidden_of(batch, student, carried.student), batch.targets, z_loss);
    backward(scale(loss, weight));
    return loss.value();
  };
  return stage;
}

Recipe make_recipe(Decoder& student, const Decoder* teacher, const RecipeOptions& options) {
  Recipe recipe;
  if (options.kind == RecipeKind::supra) {
    recipe.stages = {language_model_stage(student, options)};
    return recipe;
  }
  CHECK(teacher, "training: recipes other than supra learn from a teacher (name it with --teacher MODEL)");
  const Config &t = teacher->config(), &s = student.config();
  CHECK(distills(options.kind) || !is_window_student(s),
        "training: recipe transfer teaches SUPRA layers, of which the student has none: its attention is the teacher's already (give --recipe distill)");
  CHECK(t.layers == s.layers && t.width == s.width && t.vocab == s.vocab,
        "training: the teacher has %ld layers of width %ld and %ld tokens, the student %ld, %ld and %ld (give the model it was linearized from)",
        static_cast<long>(t.layers), static_cast<long>(t.width), static_cast<long>(t.vocab), static_cast<long>(s.layers),
        static_cast<long>(s.width), static_cast<long>(s.vocab));
  if (options.kind == RecipeKind::progressive) return progressive_recipe(student, *teacher, options);
  if (options.transfer_share > 0) recipe.stages.push_back(transfer_stage(student, *teacher, options));
  const bool distill = options.kind == RecipeKind::distill;
  recipe.stages.push_back(distill ? distill_stage(student, *teacher, options) : language_model_stage(student, options));
  recipe.stages.back().share = 1 - options.transfer_share;
  if (distill && options.calibrate_tokens != 0) {
    recipe.prepare = [&student, teacher](const std::vector<Batch>& batches) {
      calibrate(student, *teacher, batches);
      return std::string();
    };
  }
  return recipe;
}

}  // namespace supra
