#include <cmath>
#include <numeric>
#include <vector>

#include "kernels/dispatch.h"
#include "kernels/gemm.h"
#include "kernels/ops.h"
#include "kernels/simd.h"
#include "tensor/parallel.h"

// cross_entropy: loss = mean over the rows whose target is not kIgnore of  lse - x_target + z lse^2
//   lse = log sum exp(x)   logits x (N,O)  targets (N)  loss (1)  lse (N) f64 saved for backward.   dx: =
//   dx = dloss / rows (softmax(x) (1 + 2 z lse) - onehot(target)); zero in ignored rows
// The z-loss keeps lse near zero (PaLM, arXiv 2204.02311, section 5).
//
// linear_cross_entropy: the same of logits = h w^T, which are never there as a whole
//   h (N,C)  w (O,C)  loss (1)  dh, dw saved for backward, where they are only multiplied by dloss
// With a teacher's logits t, p = softmax(t):  loss of a row = (1 - a) (lse - x_target) + a sum p (log p - x + lse) + z lse^2
//   dx = weight (softmax(x) (1 + 2 z lse) - (1 - a) onehot(target) - a p)
// A block of rows goes through all three products while its logits are in the cache: logits = h w^T, dh =
// dlogits w, dw += dlogits^T h.

namespace supra {
namespace cpu {

template <class T>
static double log_sum_exp(const T* x, int64_t O) {
  const T largest = *std::max_element(x, x + O);
  double total = 0;
  for (int64_t i = 0; i < O; i++) total += std::exp(x[i] - largest);
  return largest + std::log(total);
}

// y = softmax(x) * factor
template <class T>
static void scaled_softmax(T* y, const T* x, double lse, double factor, int64_t O) {
  for (int64_t i = 0; i < O; i++) y[i] = std::exp(x[i] - lse) * factor;
}

// sum p (t - x), p = e^(t - lse);   y += factor p
template <class T>
static double weighted_gap(const T* t, const T* x, double lse, int64_t O) {
  double total = 0;
  for (int64_t i = 0; i < O; i++) total += std::exp(t[i] - lse) * (t[i] - x[i]);
  return total;
}
template <class T>
static void add_softmax(T* y, const T* t, double lse, double factor, int64_t O) {
  for (int64_t i = 0; i < O; i++) y[i] += std::exp(t[i] - lse) * factor;
}

static double weighted_gap(const float* t, const float* x, double lse, int64_t O) {
  const float shift = static_cast<float>(lse);
  double total;
  simd().exp_weighted_gap(&total, t, x, shift, O);
  return total * std::exp(shift - lse);
}

static void add_softmax(float* y, const float* t, double lse, double factor, int64_t O) {
  const float shift = static_cast<float>(lse);
  simd().add_exp_scaled(y, t, shift, static_cast<float>(factor * std::exp(shift - lse)), O);
}

static double log_sum_exp(const float* x, int64_t O) {
  float largest;
  double total;
  simd().max_exp_sum(&largest, &total, x, O);
  return largest + std::log(total);
}

static void scaled_softmax(float* y, const float* x, double lse, double factor, int64_t O) {
  // what lse loses as a float goes into the factor
  const float shift = static_cast<float>(lse);
  simd().exp_scaled(y, x, shift, static_cast<float>(factor * std::exp(shift - lse)), O);
}

}  // namespace cpu

static void check_targets(const char* op, int64_t N, int64_t O, const Tensor& targets) {
  CHECK(O > 0 && targets.numel() == N, "%s: targets are %s, expected one for each of %ld rows of %ld logits",
        op, to_string(targets.shape()).c_str(), static_cast<long>(N), static_cast<long>(O));
  const int32_t* target = targets.data<int32_t>();
  for (int64_t n = 0; n < N; n++) {
    CHECK(target[n] == kIgnore || (target[n] >= 0 && target[n] < O),
          "%s: target %d in row %ld is outside of the vocabulary of %ld (kIgnore = %d leaves a row out)", op,
          target[n], static_cast<long>(n), static_cast<long>(O), kIgnore);
  }
}

// lse (N) f64; ignored rows stay unwritten. Without targets none is.
static Tensor lse_of_rows(const Tensor& logits, const int32_t* target = nullptr) {
  const int64_t O = logits.dim(-1), N = row_count(logits);
  const Tensor lse = Tensor::empty({N}, Dtype::f64);
  by_dtype("cross_entropy", logits.dtype(), [&]<class T>(T) {
    parallel_for(N, row_grain(O), [&](int64_t begin, int64_t end) {
      for (int64_t n = begin; n < end; n++) {
        if (!target || target[n] != kIgnore) lse.data<double>()[n] = cpu::log_sum_exp(logits.data<T>() + n * O, O);
      }
    });
  });
  return lse;
}

static double element(const Tensor& t, int64_t i) {
  return t.dtype() == Dtype::f64 ? t.data<double>()[i] : t.data<float>()[i];
}

static void scale_in_place(const Tensor& t, double factor) {
  by_dtype("cross_entropy", t.dtype(), [&]<class T>(T) {
    T* x = t.data<T>();
    for (int64_t i = 0; i < t.numel(); i++) x[i] *= static_cast<T>(factor);
  });
}

static int64_t count_targets(const Tensor& targets) {
  const int32_t* target = targets.data<int32_t>();
  return targets.numel() - std::count(target, target + targets.numel(), kIgnore);
}

static double loss_of_row(double lse, double x_target, double z_loss) {
  return lse - x_target + z_loss * lse * lse;
}

// dx = weight (softmax(x) (1 + 2 z lse) - onehot(target)); dx may be x.
template <class T>
static void gradient_of_row(T* dx, const T* x, int32_t target, double lse, double z_loss, double weight,
                            int64_t O) {
  if (target == kIgnore) {
    std::fill_n(dx, O, T(0));
    return;
  }
  cpu::scaled_softmax(dx, x, lse, weight * (1 + 2 * z_loss * lse), O);
  dx[target] -= static_cast<T>(weight);
}

static Tensor cross_entropy_bwd(double weight, const Tensor& logits, const Tensor& targets, const Tensor& lse,
                                double z_loss) {
  const int64_t O = logits.dim(-1), N = row_count(logits);
  const Tensor dx = empty_like(logits);
  by_dtype("cross_entropy", logits.dtype(), [&]<class T>(T) {
    parallel_for(N, row_grain(O), [&](int64_t begin, int64_t end) {
      for (int64_t n = begin; n < end; n++) {
        gradient_of_row(dx.data<T>() + n * O, logits.data<T>() + n * O, targets.data<int32_t>()[n],
                        lse.data<double>()[n], z_loss, weight, O);
      }
    });
  });
  return dx;
}

Var cross_entropy(const Var& logits, const Tensor& targets, double z_loss) {
  const Tensor& x = logits.value();
  check_targets("cross_entropy", row_count(x), x.dim(-1), targets);
  const int32_t* target = targets.data<int32_t>();
  const Tensor lse = lse_of_rows(x, target);
  const int64_t O = x.dim(-1), counted = count_targets(targets);
  const double share = counted ? 1 / static_cast<double>(counted) : 0;
  double sum = 0;
  for (int64_t n = 0; n < row_count(x); n++) {
    if (target[n] != kIgnore)
      sum += loss_of_row(lse.data<double>()[n], element(x, n * O + target[n]), z_loss);
  }
  const Tensor loss = Tensor::full({1}, sum * share, x.dtype());
  return record("cross_entropy", {logits}, loss, [=, x = x](const Tensor& dy, Grads& grads) {
    grads.give(0, cross_entropy_bwd(dy.item() * share, x, targets, lse, z_loss));
  });
}

// Turns rows of logits into their gradients and returns the sum of their losses; teacher: as many rows, or null.
template <class T>
static double differentiate_rows(T* logits, const T* teacher, const int32_t* target, int64_t N, int64_t O,
                                 double z_loss, double weight, double teacher_weight) {
  std::vector<double> losses(N);
  parallel_for(N, row_grain(O), [&](int64_t begin, int64_t end) {
    for (int64_t n = begin; n < end; n++) {
      T* x = logits + n * O;
      if (target[n] == kIgnore) {
        std::fill_n(x, O, T(0));
        continue;
      }
      const double lse = cpu::log_sum_exp(x, O), x_target = x[target[n]], own = 1 - teacher_weight;
      losses[n] = own * (lse - x_target) + z_loss * lse * lse;
      if (!teacher) {
        gradient_of_row(x, x, target[n], lse, z_loss, weight, O);
        continue;
      }
      const T* t = teacher + n * O;
      const double teacher_lse = cpu::log_sum_exp(t, O);
      losses[n] += teacher_weight * (cpu::weighted_gap(t, x, teacher_lse, O) - teacher_lse + lse);
      cpu::scaled_softmax(x, x, lse, weight * (1 + 2 * z_loss * lse), O);
      cpu::add_softmax(x, t, teacher_lse, -weight * teacher_weight, O);
      x[target[n]] -= static_cast<T>(weight * own);
    }
  });
  return std::accumulate(losses.begin(), losses.end(), 0.0);
}

Var linear_cross_entropy(const Var& h, const Var& w, const Tensor& targets, double z_loss) {
  return linear_cross_entropy(h, w, targets, z_loss, {{}, 0});
}

Var linear_cross_entropy(const Var& h, const Var& w, const Tensor& targets, double z_loss,
                         const Distillation& distillation) {
  const std::string weight = to_string(w.shape());
  CHECK(w.value().rank() == 2 && h.value().rank() == 2 && h.dim(1) == w.dim(1),
        "linear_cross_entropy: weight is %s, input %s; (O,C) and (N,C) are needed", weight.c_str(),
        to_string(h.shape()).c_str());
  const int64_t N = h.dim(0), C = h.dim(1), O = w.dim(0);
  check_targets("linear_cross_entropy", N, O, targets);
  const int32_t* target = targets.data<int32_t>();
  const int64_t counted = count_targets(targets);
  const double share = counted ? 1 / static_cast<double>(counted) : 0;
  const bool keep = will_record({h, w}), taught = distillation.weight > 0;
  const Tensor dh = keep && h.requires_grad() ? empty_like(h.value()) : Tensor();
  const Tensor dw = keep && w.requires_grad() ? empty_like(w.value()) : Tensor();
  double sum = 0;
  by_dtype("linear_cross_entropy", h.dtype(), [&]<class T>(T) {
    const T *x = h.value().data<T>(), *matrix = w.value().data<T>();
    const int64_t block = std::clamp<int64_t>(kLogitsAtOnce / O / 32 * 32, 32, std::max<int64_t>(32, N));
    const Tensor logits = Tensor::empty({std::min(block, N), O}, h.dtype());
    const Tensor teacher = taught ? empty_like(logits) : Tensor();
    T* y = logits.data<T>();
    for (int64_t n = 0; n < N; n += block) {
      const int64_t rows = std::min(block, N - n);
      gemm(false, true, rows, O, C, x + n * C, C, matrix, C, false, y, O);
      if (taught) distillation.teacher(n, logits.rows(0, rows), teacher.rows(0, rows));
      sum += differentiate_rows(y, data_or_null<T>(teacher), target + n, rows, O, z_loss, share, distillation.weight);
      if (dh.defined()) gemm(false, false, rows, C, O, y, O, matrix, C, false, dh.data<T>() + n * C, C);
      if (dw.defined()) gemm(true, false, O, C, rows, y, O, x + n * C, C, n > 0, dw.data<T>(), C);
    }
    if (dw.defined() && N == 0) dw.fill(0);
  });
  const Tensor loss = Tensor::full({1}, sum * share, h.dtype());
  return record("linear_cross_entropy", {h, w}, loss, [=](const Tensor& dy, Grads& grads) {
    const double factor = dy.item();
    const auto give = [&](size_t input, const Tensor& gradient) {
      if (!gradient.defined()) return;
      if (factor != 1) scale_in_place(gradient, factor);
      grads.give(input, gradient);
    };
    give(0, dh);
    give(1, dw);
  });
}

Tensor log_sum_exp(const Tensor& logits) { return lse_of_rows(logits); }

Tensor token_nll(const Tensor& logits, const Tensor& targets) {
  check_targets("token_nll", row_count(logits), logits.dim(-1), targets);
  const int32_t* target = targets.data<int32_t>();
  const Tensor lse = lse_of_rows(logits, target), nll = Tensor::empty({targets.numel()});
  for (int64_t n = 0; n < nll.numel(); n++) {
    const double loss =
        target[n] == kIgnore ? 0 : lse.data<double>()[n] - element(logits, n * logits.dim(-1) + target[n]);
    nll.data<float>()[n] = static_cast<float>(loss);
  }
  return nll;
}

}  // namespace supra
