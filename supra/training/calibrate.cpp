#include "supra/training/calibrate.h"

#include <algorithm>
#include <cmath>

#include "kernels/multiply.h"
#include "kernels/products.h"
#include "supra/delta_attention.h"

namespace supra {
namespace {

constexpr double kRidge = 1e-3;

// Z^T Z (D,D) and Z^T T (D,C) of one layer.
struct Normal {
  Tensor zz, zt;

  // Adds a batch, z (N,D) and t (N,C). The sums are in double, on the CPU. The factors are not rounded to bf16, because the
  // solution enlarges rounding errors.
  void add(const Tensor& z, const Tensor& t) const {
    const UseProducts exact(Products::f32);
    const auto accumulate = [&](const Tensor& sum, const Tensor& right) {
      const Tensor product = Tensor::empty(sum.shape(), Dtype::f32, z.device());
      multiply("calibration", product, false, z, true, right, false);
      add_into(sum, product.to(Device::cpu).to(Dtype::f64));
    };
    accumulate(zz, z);
    accumulate(zt, t);
  }
};

// Solves (A + lambda I) X = B for a positive definite A (n,n), by Cholesky's factors L L^T. Overwrites A, and B (n,m) by X.
void solve_ridge(double* a, double* b, int64_t n, int64_t m) {
  double trace = 0;
  for (int64_t i = 0; i < n; i++) trace += a[i * n + i];
  for (int64_t i = 0; i < n; i++) a[i * n + i] += kRidge * trace / static_cast<double>(n);
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

void fit_weight(const Tensor& weight, const Normal& sums) {
  const int64_t D = weight.dim(1), C = weight.dim(0);
  const double* zt = sums.zt.data<double>();
  solve_ridge(sums.zz.data<double>(), sums.zt.data<double>(), D, C);
  for (int64_t c = 0; c < C; c++) {
    for (int64_t i = 0; i < D; i++) weight.data<float>()[c * D + i] = static_cast<float>(zt[i * C + c]);
  }
}

// With y_h = z_h W_h^T, the part of head h in the output: scales the heads by the numbers a that make |sum a_h y_h - T| least.
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
  solve_ridge(yy.data(), yt.data(), heads, 1);
  for (int64_t c = 0; c < C; c++) {
    for (int64_t i = 0; i < D; i++) w[c * D + i] *= static_cast<float>(yt[i / V]);
  }
}

// The part of the teacher's output to fit: all but the bias, or in a correction all but the student's output.
Tensor target_of(const Var& output, const Linear& out_proj, const Var& z, bool correct) {
  const Tensor target = output.value().clone();
  if (correct) {
    add_into(target, scale(out_proj(z), -1).value());
  } else if (out_proj.bias.defined()) {
    const Tensor every = empty_like(target);
    repeat_row("calibration", every, scale(out_proj.bias, -1).value());
    add_into(target, every);
  }
  return target;
}

// Starts the gates of an untrained delta layer from how far back the teacher's heads look. `streams`: the layer's inputs.
void start_gates(const Decoder& student, const Decoder& teacher, int64_t layer, const std::vector<Batch>& batches, const std::vector<Var>& streams) {
  const auto* delta = dynamic_cast<const DeltaAttention*>(&student.mixer(layer));
  const auto* softmax = dynamic_cast<const SoftmaxAttention*>(&teacher.mixer(layer));
  if (!delta || !softmax || !delta->is_fresh()) return;
  std::vector<HeadReach> reach(student.config().heads);
  double queries = 0;
  for (size_t i = 0; i < batches.size(); i++)
    queries += static_cast<double>(softmax->add_reach(reach, teacher.mixer_input(layer, streams[i]), steps_of(batches[i])));
  if (queries == 0) return;
  for (HeadReach& head : reach) head.distance /= queries, head.entropy /= queries;
  delta->start_as(reach);
}

}  // namespace

int64_t default_calibration_tokens(const Config& config) {
  constexpr int64_t kStreamFloats = 1 << 27;
  return std::max<int64_t>(8192, std::min(64 * config.heads * config.value_dim, kStreamFloats / config.width));
}

Steps steps_of(const Batch& batch) { return {std::vector<int64_t>(batch.tokens.dim(0), 0), batch.lengths, batch.cuts}; }

void calibrate(Decoder& student, const Decoder& teacher, const std::vector<Batch>& batches, Calibration kind,
               std::optional<int64_t> only) {
  const NoGrad off;
  const Config& c = student.config();
  const bool correct = kind == Calibration::correction;
  // the residual streams of all batches: the teacher's, and of a correction the student's
  std::vector<Var> taught, own(batches.size());
  for (const Batch& batch : batches) taught.push_back(teacher.embed(batch.tokens, steps_of(batch)));
  for (size_t i = 0; correct && i < batches.size(); i++) own[i] = student.embed(batches[i].tokens, steps_of(batches[i]));
  for (int64_t layer = 0; layer < (only ? *only + 1 : c.layers); layer++) {
    const Mixer& mixer = student.mixer(layer);
    const bool fits = (!only || layer == *only) && mixer.kind() != MixerKind::softmax && !batches.empty();
    const int64_t D = c.heads * c.value_dim;
    const Normal sums = {Tensor::zeros({D, D}, Dtype::f64), Tensor::zeros({D, c.width}, Dtype::f64)};
    if (fits) start_gates(student, teacher, layer, batches, taught);
    for (size_t i = 0; i < batches.size(); i++) {
      const auto add = [&](int64_t, const Var& input, const Var& output, const Steps& steps) {
        const Var z = mixer.features(correct ? student.mixer_input(layer, own[i]) : input, steps, nullptr);
        sums.add(z.value().view({-1, D}), target_of(output, mixer.out_proj(), z, correct).view({-1, c.width}));
      };
      taught[i] = teacher.block(layer, taught[i], steps_of(batches[i]), nullptr, fits ? add : Decoder::OnMixer());
    }
    if (fits) {
      const Tensor weight = mixer.out_proj().weight.value(), here = weight.to(Device::cpu).clone();
      if (kind == Calibration::heads) scale_heads(here, sums, c.heads);
      else fit_weight(here, sums);
      if (correct) add_into(here, weight.to(Device::cpu));
      weight.copy_from(here);
    }
    for (size_t i = 0; correct && i < batches.size(); i++) own[i] = student.block(layer, own[i], steps_of(batches[i]));
  }
}

}  // namespace supra
