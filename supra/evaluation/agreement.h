#pragma once
#include "supra/evaluation/mean.h"
#include "supra/evaluation/perplexity.h"

namespace supra {

// How close a student's predictions are to its teacher's, for each token of the same text. Means over tokens.
struct Agreement {
  Mean kl;     // KL(teacher || student), nats
  Mean top1;   // 1 if both have the same most likely token
  Mean above;  // the student's -log p minus the teacher's, token by token: tokens that are hard for both do not count
};

// Both must have the same vocabulary. Only a block of logits is held at a time.
Agreement measure_agreement(const Decoder& teacher, const Decoder& student, const std::vector<std::vector<int32_t>>& sequences,
                            const OnScored& on_scored = {});

}  // namespace supra
