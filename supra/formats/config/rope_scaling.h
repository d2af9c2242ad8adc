#pragma once
#include "kernels/ops.h"

namespace supra {

// Longer contexts than a model was trained on, by other rotary frequencies. Both set rope.divisors; `dims` are the
// dimensions of a head that are rotated, `trained` the context of the training.

// Llama 3.1: frequencies whose wave is longer than trained / low are divided by `factor`, those shorter than
// trained / high are kept, those between are interpolated.
void scale_llama3(Rope& rope, int64_t dims, int64_t trained, double factor, double low, double high);

// YaRN (Peng et al., arXiv 2309.00071, section 3): pairs that turn more than beta_fast times in the trained context are
// kept, less than beta_slow times divided by `factor`, a linear ramp between. Sets rope.magnitude to 0.1 ln(factor) + 1,
// which the caller may replace.
void scale_yarn(Rope& rope, int64_t dims, int64_t trained, double factor, double beta_fast, double beta_slow);

}  // namespace supra
