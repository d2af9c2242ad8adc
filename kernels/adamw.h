#pragma once

namespace supra {

// The factors of adamw, computed once per step in double: keep = 1 - lr decay, rate = lr / (1 - beta1^step),
// v_scale = 1 / sqrt(1 - beta2^step).
struct AdamwFactors {
  float grad_scale, old_m, new_m, old_v, new_v, keep, rate, v_scale, eps;
};

}  // namespace supra
