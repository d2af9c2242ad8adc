#include "supra/training/memory_plan.h"

#include <algorithm>

namespace supra {

int64_t MemoryPlan::peak() const {
  const int64_t always = weights + moments, together = accumulates ? gradients : 0;
  return always + std::max(together + activations - recomputed + loss, gradients + (recomputed > 0 ? activations : 0));
}

static int64_t bytes_of(const Decoder& decoder) {
  int64_t bytes = 0;
  const_cast<Decoder&>(decoder).visit([&](const std::string&, Var& parameter) { bytes += static_cast<int64_t>(parameter.value().bytes()); });
  return bytes;
}

// What one row of T tokens keeps for backward.
static int64_t kept_by_row(const Decoder& decoder, int64_t T) {
  const Tensor tokens = Tensor::zeros({1, T}, Dtype::i32);
  const size_t before = memory_stats().current;
  const Var hidden = decoder.hidden(tokens);
  return static_cast<int64_t>(memory_stats().current - before);
}

MemoryPlan plan_memory(Decoder& student, const Decoder* teacher, const TrainOptions& o) {
  const Config& c = student.config();
  MemoryPlan plan;
  plan.accumulates = o.accumulate > 1;
  plan.weights = bytes_of(student);
  student.visit([&](const std::string& name, Var& parameter) {
    // what keeps nothing for backward is no part of what is measured
    parameter = Var(parameter.value(), trains(o, name));
    if (!parameter.requires_grad()) return;
    const int64_t bytes = static_cast<int64_t>(parameter.value().bytes());
    plan.gradients += bytes;
    plan.moments += 2 * bytes;
  });

  const int64_t rows = o.batch_tokens / o.sequence / o.accumulate, tokens = rows * o.sequence;
  const int64_t short_row = std::min<int64_t>(o.sequence, 256);
  student.set_recompute(false);
  // the first pass makes what is made once, tables of angles say
  kept_by_row(student, short_row);
  const int64_t kept = kept_by_row(student, short_row) * tokens / short_row;
  // recomputed: the inputs of all layers, and one layer at a time
  const int64_t inputs = 4 * c.width * tokens * c.layers;
  plan.recomputed = o.recompute ? kept / c.layers : 0;
  plan.activations = o.recompute ? inputs + plan.recomputed : kept;
  const int64_t block = std::min(tokens, std::max<int64_t>(32, kLogitsAtOnce / c.vocab / 32 * 32));
  const bool taught = o.recipe.kind == RecipeKind::distill;
  plan.loss = 4 * (block * c.vocab * (taught ? 2 : 1) + c.vocab * c.width + tokens * c.width * (taught ? 2 : 1));
  if (teacher) plan.teacher = bytes_of(*teacher);
  return plan;
}

}  // namespace supra
