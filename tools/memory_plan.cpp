#include "tools/memory_plan.h"

#include <algorithm>

namespace supra {

int64_t MemoryPlan::peak() const {
  const int64_t always = weights + moments, together = accumulates ? gradients : 0;
  return always + std::max(together + activations - recomputed + loss, gradients + (recomputed > 0 ? activations : 0));
}

std::string MemoryPlan::advice() const {
  const char* const fewer = "--lora or --only: fewer parameters to train";
  const struct {
    const char* name;
    int64_t bytes;
    const char* flags;
  } parts[] = {{"weights", weights, "a smaller model"},
               {"gradients", gradients, fewer},
               {"moments", moments, fewer},
               {"activations", activations, recomputed > 0 ? "more --accumulate, a smaller --batch-tokens or --seq-len" : "--activation-checkpointing, more --accumulate, a smaller --batch-tokens or --seq-len"},
               {"loss", loss, "more --accumulate or a smaller --batch-tokens"},
               {"teacher", teacher, "a smaller --teacher, by supra quantize"}};
  const auto& largest = *std::max_element(std::begin(parts), std::end(parts), [](const auto& a, const auto& b) { return a.bytes < b.bytes; });
  return format("%s take most, %.1f MB of %.1f (%s)", largest.name, static_cast<double>(largest.bytes) / 1e6, static_cast<double>(peak() + teacher) / 1e6, largest.flags);
}

static int64_t bytes_of(const Decoder& decoder) {
  int64_t bytes = 0;
  const_cast<Decoder&>(decoder).visit([&](const std::string&, Var& parameter) { bytes += static_cast<int64_t>(parameter.value().bytes()); });
  return bytes;
}

// The memory that a row of T tokens stores for backward.
static int64_t kept_by_row(const Decoder& decoder, int64_t T) {
  const Tensor tokens = Tensor::zeros({1, T}, Dtype::i32);
  const size_t before = memory_stats(decoder.device()).current;
  const Var hidden = decoder.hidden(tokens);
  return static_cast<int64_t>(memory_stats(decoder.device()).current - before);
}

MemoryPlan plan_memory(Decoder& student, const Decoder* teacher, const TrainOptions& o) {
  const Config& c = student.config();
  MemoryPlan plan;
  plan.accumulates = o.accumulate > 1;
  plan.weights = bytes_of(student);
  student.visit([&](const std::string& name, Var& parameter) {
    // parameters that are not trained store nothing for backward
    parameter = Var(parameter.value(), trains(o, name));
    if (!parameter.requires_grad()) return;
    const int64_t bytes = static_cast<int64_t>(parameter.value().bytes());
    plan.gradients += bytes;
    plan.moments += 2 * bytes;
  });

  const int64_t rows = o.batch_tokens / o.sequence / o.accumulate, tokens = rows * o.sequence;
  const int64_t short_row = std::min<int64_t>(o.sequence, 256);
  student.set_recompute(false);
  // the first pass makes things that are made once, such as tables of angles
  kept_by_row(student, short_row);
  const int64_t kept = kept_by_row(student, short_row) * tokens / short_row;
  // recomputed: the inputs of all layers, and one layer at a time
  const int64_t element = static_cast<int64_t>(size_of(student.activations()));
  const int64_t inputs = element * c.width * tokens * c.layers;
  plan.recomputed = o.recompute ? kept / c.layers : 0;
  plan.activations = o.recompute ? inputs + plan.recomputed : kept;
  const int64_t block = std::min(tokens, std::max<int64_t>(32, kLogitsAtOnce / c.vocab / 32 * 32));
  const int64_t sides = distills(o.recipe.kind) ? 2 : 1;
  plan.loss = 4 * (block * c.vocab * sides + c.vocab * c.width) + element * tokens * c.width * sides;
  // capped logits, and their gradient
  if (c.logit_cap > 0) plan.loss += 2 * 4 * block * c.vocab;
  // besides the f32 parts: the gradient of the logits or the teacher's logits, and output matrices in the dtype of products
  if (element < 4) plan.loss += element * (block + c.width) * c.vocab * sides;
  if (!teacher) return plan;
  plan.teacher = bytes_of(*teacher);
  // in carried batches it stores a state for each row
  if (o.packing == Packing::carried)
    plan.teacher += rows * o.accumulate * static_cast<int64_t>(teacher->state_bytes(position_limit(teacher->config())));
  return plan;
}

}  // namespace supra
