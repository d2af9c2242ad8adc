#include "supra/training/recipe.h"
#include "supra/training/teacher_cache.h"

namespace supra {

Stage distill_stage(const Decoder& student, const Decoder& teacher, const RecipeOptions& options) {
  Stage stage;
  stage.name = "distill";
  stage.lr = options.lr;
  stage.cost = options.cache ? 3 : 4;
  stage.learn = [&, kl_weight = options.kl_weight, cache = options.cache](const Batch& batch, double weight, CarriedStates& carried) {
    const auto live = [&]() -> TeacherLogits {
      const Var taught = reshape(hidden_of(batch, teacher, carried.teacher), {-1, teacher.config().width});
      return [&teacher, taught](int64_t first, const Tensor&, const Tensor& into) {
        into.copy_from(teacher.logits(Var(taught.value().rows(first, first + into.dim(0)))).value());
      };
    };
    const TeacherLogits logits = cache ? cache->logits(batch, live) : live();
    const Var loss = student.loss(hidden_of(batch, student, carried.student), batch.targets, 0, {logits, kl_weight});
    backward(scale(loss, weight));
    return loss.value();
  };
  return stage;
}

}  // namespace supra
