#pragma once
#include "kernels/ops.h"

namespace supra {

// Rotary frequencies for contexts longer than the trained one. Both functions set rope.divisors. `dims`: the dimensions of a
// head that are rotated; `trained`: the trained context.

// Llama 3.1: divides frequencies with a wavelength above trained / low by `factor`, keeps those below trained / high, and
// interpolates between.
void scale_llama3(Rope& rope, int64_t dims, int64_t trained, double factor, double low, double high);

// YaRN (Peng et al., arXiv 2309.00071, section 3): keeps pairs that turn more than beta_fast times in the trained context,
// divides those that turn less than beta_slow times by `factor`, with a linear ramp between. Sets rope.magnitude to 0.1
// ln(factor) + 1, which the caller may replace.
void scale_yarn(Rope& rope, int64_t dims, int64_t trained, double factor, double beta_fast, double beta_slow);

}  // namespace supra
