#include "kernels/activation_vec.h"
#include "kernels/columns.h"
#include "kernels/simd.h"

namespace supra::SUPRA_LEVEL {

void exp_array(float* y, const float* x, int64_t n) {
  for_columns(n, [=](int64_t i, auto part) { part.store(y + i, exp(part.load(x + i))); });
}

void activation_fwd(float* y, const float* x, int64_t n, Activation f) {
  with_activation(f, [=](auto f) {
    for_columns(n, [=](int64_t i, auto part) { part.store(y + i, f.value(part.load(x + i))); });
  });
}

void activation_bwd(float* dx, const float* dy, const float* x, int64_t n, Activation f) {
  with_activation(f, [=](auto f) {
    for_columns(
        n, [=](int64_t i, auto part) { part.store(dx + i, part.load(dy + i) * f.slope(part.load(x + i))); });
  });
}

}  // namespace supra::SUPRA_LEVEL
