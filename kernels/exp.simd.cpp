#include "kernels/simd.h"
#include "kernels/vec.h"

namespace supra::SUPRA_LEVEL {

void exp_array(float* y, const float* x, int64_t n) {
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) store(y + i, exp(load(x + i)));
  if (i < n) store_first(y + i, exp(load_first(x + i, n - i)), n - i);
}

}  // namespace supra::SUPRA_LEVEL
