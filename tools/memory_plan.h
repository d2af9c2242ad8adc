#pragma once
#include "supra/training/train.h"

namespace supra {

// The memory of a training step at its peak, in bytes.
struct MemoryPlan {
  int64_t weights = 0, gradients = 0, moments = 0;
  int64_t activations = 0;  // stored for backward
  int64_t recomputed = 0;   // of these, the part that exists for one layer at a time while backward recomputes it
  int64_t loss = 0;         // a block of logits, the teacher's block, and their gradients
  int64_t teacher = 0;      // its weights as stored (on a CPU memory-mapped from the file) and its states of carried rows

  // The peak is either at the loss (all activations, and only the output matrix's gradient) or at the end of backward
  // (all gradients, no activations). The teacher comes on top.
  int64_t peak() const;
  // The largest of these, and the flags of supra uptrain that make it smaller.
  std::string advice() const;
  bool accumulates = false;  // gradients of earlier parts are stored all the time
};

// For the student's device and the last stage of the recipe, which is the largest. The activations of a token are measured on one short
// row. `options` must be resolved.
MemoryPlan plan_memory(Decoder& student, const Decoder* teacher, const TrainOptions& options);

}  // namespace supra
