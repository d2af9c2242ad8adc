#include <cmath>

#include "kernels/dispatch.h"
#include "kernels/gemm.h"
#include "kernels/ops.h"
#include "tensor/parallel.h"

// muon (Jordan et al., "Muon", 2024; scale and decay of Liu et al., arXiv 2502.16982):
//   m = beta m + g;  u = g + beta m (Nesterov);  w -= lr (0.2 sqrt(max(R, C)) orthogonal(u) + weight_decay w)
// w, m, g (R,C). orthogonal(u) = U V^T of u = U S V^T, nearly: five steps of X <- a X + b A X + c A A X, A = X X^T, from
// u / |u|, bring every singular value between 0.7 and 1.2. The factor makes an update as large as one of AdamW.

namespace supra {
namespace {

constexpr int kSteps = 5;
constexpr float kA = 3.4445f, kB = -4.7750f, kC = 2.0315f;

// X (R,C), R <= C
void orthogonalise(const Tensor& X) {
  const int64_t R = X.dim(0), C = X.dim(1);
  const Tensor A = Tensor::empty({R, R}), P = Tensor::empty({R, R}), Y = Tensor::empty({R, C});
  float *x = X.data<float>(), *a = A.data<float>(), *p = P.data<float>(), *y = Y.data<float>();
  const float inverse = static_cast<float>(1 / (std::sqrt(squared_norm(X)) + 1e-7));
  for (int64_t i = 0; i < R * C; i++) x[i] *= inverse;
  for (int step = 0; step < kSteps; step++) {
    gemm(false, true, R, R, C, x, C, x, C, false, a, R);
    gemm(false, false, R, R, R, a, R, a, R, false, p, R);
    for (int64_t i = 0; i < R * R; i++) p[i] = kB * a[i] + kC * p[i];
    gemm(false, false, R, C, R, p, R, x, C, false, y, C);
    for (int64_t i = 0; i < R * C; i++) x[i] = kA * x[i] + y[i];
  }
}

void transpose(float* y, const float* x, int64_t R, int64_t C) {
  for (int64_t i = 0; i < R; i++) {
    for (int64_t j = 0; j < C; j++) y[j * R + i] = x[i * C + j];
  }
}

}  // namespace

void muon_update(const Tensor& w, const Tensor& m, const Tensor& g, const MuonStep& o) {
  CHECK(w.rank() == 2, "muon: a parameter of shape %s, only matrices are orthogonalised", to_string(w.shape()).c_str());
  const int64_t R = w.dim(0), C = w.dim(1), n = w.numel();
  const bool tall = R > C;
  const Tensor u = Tensor::empty({R, C});
  float *weight = w.data<float>(), *mean = m.data<float>(), *update = u.data<float>();
  const float *gradient = g.data<float>(), beta = static_cast<float>(o.momentum), scale = static_cast<float>(o.grad_scale);
  for (int64_t i = 0; i < n; i++) {
    mean[i] = beta * mean[i] + scale * gradient[i];
    update[i] = scale * gradient[i] + beta * mean[i];
  }
  const Tensor X = tall ? Tensor::empty({C, R}) : u;
  if (tall) transpose(X.data<float>(), update, R, C);
  orthogonalise(X);
  if (tall) transpose(update, X.data<float>(), C, R);
  const float rate = static_cast<float>(o.lr * 0.2 * std::sqrt(static_cast<double>(std::max(R, C))));
  const float keep = static_cast<float>(1 - o.lr * o.weight_decay);
  for (int64_t i = 0; i < n; i++) weight[i] = keep * weight[i] - rate * update[i];
}

}  // namespace supra
