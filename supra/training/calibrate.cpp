#include "supra/training/calibrate.h"

#include <cmath>

#include "kernels/multiply.h"
#include "supra/supra_attention.h"

namespace supra {
namespace {

constexpr double kRidge = 1e-3;

// Z^T Z (D,D) and Z^T T (D,C) of one layer.
struct Normal {
  Tensor zz, zt;

  Normal(int64_t D, int64_t C) : zz(Tensor::zeros({D, D}, Dtype::f64)), zt(Tensor::zeros({D, C}, Dtype::f64)) {}

  // z (N,D), t (N,C) where the model is: summed in double, here, a batch at a time
  void add(const Tensor& z, const Tensor& t) {
    const auto accumulate = [&](const Tensor& sum, const Tensor& right) {
      const Tensor product = Tensor::empty(sum.shape(), Dtype::f32, z.device());
      multiply("calibration", product, false, z, true, right, false);
      add_into(sum, product.to(Device::cpu).to(Dtype::f64));
    };
    accumulate(zz, z);
    accumulate(zt, t);
  }
};

// Solves A X = B for a positive definite A (n,n), by Cholesky's factors L L^T; A and B (n,m) are overwritten, B by X.
void solve(double* a, double* b, int64_t n, int64_t m) {
  for (int64_t j = 0; j < n; j++) {
    for (int64_t k = 0; k < j; k++) a[j * n + j] -= a[j * n + k] * a[j * n + k];
    CHECK(a[j * n + j] > 0, "calibration: the features of a layer are linearly dependent (give more text)");
    a[j * n + j] = std::sqrt(a[j * n + j]);
    for (int64_t i = j + 1; i < n; i++) {
      for (int64_t k = 0; k < j; k++) a[i * n + j] -= a[i * n + k] * a[j * n + k];
      a[i * n + j] /= a[j * n + j];
    }
  }
  const auto subtract = [&](int64_t to, int64_t from, double factor) {
    for (int64_t c = 0; c < m; c++) b[to * m + c] -= factor * b[from * m + c];
  };
  const auto divide = [&](int64_t row) {
    for (int64_t c = 0; c < m; c++) b[row * m + c] /= a[row * n + row];
  };
  for (int64_t i = 0; i < n; i++) {
    for (int64_t k = 0; k < i; k++) subtract(i, k, a[i * n + k]);
    divide(i);
  }
  for (int64_t i = n - 1; i >= 0; i--) {
    for (int64_t k = i + 1; k < n; k++) subtract(i, k, a[k * n + i]);
    divide(i);
  }
}

void solve_ridge(const Tensor& weight, const Normal& sums) {
  const int64_t D = weight.dim(1), C = weight.dim(0);
  double *zz = sums.zz.data<double>(), *zt = sums.zt.data<double>(), trace = 0;
  for (int64_t i = 0; i < D; i++) trace += zz[i * D + i];
  for (int64_t i = 0; i < D; i++) zz[i * D + i] += kRidge * trace / static_cast<double>(D);
  solve(zz, zt, D, C);
  for (int64_t c = 0; c < C; c++) {
    for (int64_t i = 0; i < D; i++) weight.data<float>()[c * D + i] = static_cast<float>(zt[i * C + c]);
  }
}

// With y_h = z_h W_h^T a head's part of the output: the numbers a that make |sum a_h y_h - T| least.
void scale_heads(const Tensor& weight, const Normal& sums, int64_t heads) {
  const int64_t D = weight.dim(1), C = weight.dim(0), V = D / heads;
  const double *zz = sums.zz.data<double>(), *zt = sums.zt.data<double>();
  float* w = weight.data<float>();
  std::vector<double> yy(heads * heads), yt(heads);
  for (int64_t i = 0; i < D; i++) {
    for (int64_t c = 0; c < C; c++) yt[i / V] += w[c * D + i] * zt[i * C + c];
    for (int64_t j = 0; j < D; j++) {
      double ww = 0;
      for (int64_t c = 0; c < C; c++) ww += double{w[c * D + i]} * w[c * D + j];
      yy[i / V * heads + j / V] += ww * zz[i * D + j];
    }
  }
  double trace = 0;
  for (int64_t h = 0; h < heads; h++) trace += yy[h * heads + h];
  for (int64_t h = 0; h < heads; h++) yy[h * heads + h] += kRidge * trace / static_cast<double>(heads);
  solve(yy.data(), yt.data(), heads, 1);
  for (int64_t c = 0; c < C; c++) {
    for (int64_t i = 0; i < D; i++) w[c * D + i] *= static_cast<float>(yt[i / V]);
  }
}

}  // namespace

void calibrate(Decoder& student, const Decoder& teacher, const std::vector<Batch>& batches, Calibration kind) {
  const NoGrad off;
  const Config& c = student.config();
  std::vector<Normal> sums;
  for (int64_t i = 0; i < c.layers; i++) sums.emplace_back(c.heads * c.value_dim, c.width);
  for (const Batch& batch : batches) {
    teacher.hidden(batch.tokens, nullptr, batch.lengths, batch.cuts, [&](int64_t layer, const Var& input, const Var& output, const Steps& steps) {
      const auto* mixer = dynamic_cast<const SupraAttention*>(&student.mixer(layer));
      if (!mixer) return;
      const Tensor z = mixer->features(input, steps, nullptr).value(), target = output.value().clone();
      if (const Var& bias = mixer->out_proj().bias; bias.defined()) {
        const Tensor every = empty_like(target);
        repeat_row("calibration", every, scale(bias, -1).value());
        add_into(target, every);
      }
      sums[layer].add(z.view({-1, z.dim(-1)}), target.view({-1, c.width}));
    });
  }
  for (int64_t layer = 0; layer < c.layers; layer++) {
    const auto* mixer = dynamic_cast<const SupraAttention*>(&student.mixer(layer));
    if (!mixer) continue;
    const Tensor weight = mixer->out_proj().weight.value(), here = weight.to(Device::cpu).clone();
    if (kind == Calibration::ridge) solve_ridge(here, sums[layer]);
    else scale_heads(here, sums[layer], c.heads);
    weight.copy_from(here);
  }
}

}  // namespace supra
