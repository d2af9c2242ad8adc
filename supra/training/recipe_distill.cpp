#include "supra/training/recipe.h"

namespace supra {

Stage distill_stage(const Decoder& student, const Decoder& teacher, const RecipeOptions& options) {
  Stage stage;
  stage.name = "distill";
  stage.lr = options.lr;
  stage.cost = 4;
  stage.learn = [&, kl_weight = options.kl_weight](const Batch& batch, double weight, Memory& memory) {
    const Var taught = reshape(hidden_of(batch, teacher, memory.teacher), {-1, teacher.config().width});
    const auto logits = [&](int64_t first, const Tensor& into) {
      into.copy_from(teacher.logits(Var(taught.value().rows(first, first + into.dim(0)))).value());
    };
    const Var loss = student.loss(hidden_of(batch, student, memory.student), batch.targets, 0, {logits, kl_weight});
    backward(scale(loss, weight));
    return loss.value().item();
  };
  return stage;
}

}  // namespace supra
