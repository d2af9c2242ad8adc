#pragma once
#include "supra/training/train.h"

namespace supra {

// What a step of training holds at its peak, in bytes.
struct MemoryPlan {
  int64_t weights = 0, gradients = 0, moments = 0;
  int64_t activations = 0;  // kept for backward
  int64_t recomputed = 0;   // of these, what is there a layer at a time, while backward computes it again
  int64_t loss = 0;         // a block of logits, the teacher's beside it, and what it makes of them
  int64_t teacher = 0;      // its weights as they are stored, on a CPU mapped from the file; its states of carried rows

  // The peak is either at the loss (all activations, and only the output matrix's gradient) or at the end of backward
  // (all gradients, no activations). The teacher comes on top.
  int64_t peak() const;
  // Which of these is the largest, and the flags of supra uptrain that make it smaller.
  std::string advice() const;
  bool accumulates = false;  // gradients of earlier parts are there all the time
};

// Of the device where the student is. The last stage of the recipe, which is the largest. What a token keeps for backward is measured, on one short row.
// `options` are resolved.
MemoryPlan plan_memory(Decoder& student, const Decoder* teacher, const TrainOptions& options);

}  // namespace supra
