#pragma once
#include "supra/evaluation/mean.h"
#include "supra/evaluation/perplexity.h"

namespace supra {

// How near a student's predictions are to its teacher's, token by token of the same text. Means over tokens.
struct Agreement {
  Mean kl;     // KL(teacher || student), nats
  Mean top1;   // 1 where both hold the same token for the likeliest
  Mean above;  // the student's -log p less the teacher's: by pairs, so that what is hard for both does not count
};

// Both know the same tokens. Only a block of the logits is there at a time.
Agreement measure_agreement(const Decoder& teacher, const Decoder& student, const std::vector<std::vector<int32_t>>& sequences,
                            const OnScored& on_scored = {});

}  // namespace supra
