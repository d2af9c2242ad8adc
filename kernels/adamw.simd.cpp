#include "kernels/columns.h"
#include "kernels/simd.h"

namespace supra::SUPRA_LEVEL {

void adamw(float* w, float* m, float* v, const float* g, int64_t n, const AdamwFactors& f) {
  for_columns(n, [&](int64_t i, auto part) {
    const Vec grad = part.load(g + i) * f.grad_scale;
    const Vec mean = fma(part.load(m + i), broadcast(f.old_m), grad * f.new_m);
    const Vec square = fma(part.load(v + i), broadcast(f.old_v), grad * grad * f.new_v);
    part.store(m + i, mean);
    part.store(v + i, square);
    const Vec step = mean * f.rate / fma(sqrt(square), broadcast(f.v_scale), broadcast(f.eps));
    part.store(w + i, fma(part.load(w + i), broadcast(f.keep), -step));
  });
}

void sum_squares(double* sum, const float* x, int64_t n) {
  constexpr int kChains = 16;
  double chain[kChains] = {};
  int64_t i = 0;
  for (; i + kChains <= n; i += kChains) {
    for (int k = 0; k < kChains; k++) chain[k] += static_cast<double>(x[i + k]) * x[i + k];
  }
  for (; i < n; i++) chain[i % kChains] += static_cast<double>(x[i]) * x[i];
  *sum = 0;
  for (double part : chain) *sum += part;
}

}  // namespace supra::SUPRA_LEVEL
