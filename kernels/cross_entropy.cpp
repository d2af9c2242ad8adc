#include <cmath>

#include "kernels/dispatch.h"
#include "kernels/ops.h"
#include "kernels/simd.h"
#include "tensor/parallel.h"

// cross_entropy: loss = mean over the rows whose target is not kIgnore of  lse - x_target + z lse^2
//   lse = log sum exp(x)   logits x (N,O)  targets (N)  loss (1)  lse (N) f64 saved for backward.   dx: =
//   dx = dloss / rows (softmax(x) (1 + 2 z lse) - onehot(target)); zero in ignored rows
// The z-loss keeps lse near zero (PaLM, arXiv 2204.02311, section 5).

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

static void check_targets(const char* op, const Tensor& logits, const Tensor& targets) {
  const int64_t O = logits.dim(-1), N = row_count(logits);
  CHECK(O > 0 && targets.numel() == N, "%s: targets are %s, expected one for each row of logits %s", op,
        to_string(targets.shape()).c_str(), to_string(logits.shape()).c_str());
  const int32_t* target = targets.data<int32_t>();
  for (int64_t n = 0; n < N; n++) {
    CHECK(target[n] == kIgnore || (target[n] >= 0 && target[n] < O),
          "%s: target %d in row %ld is outside of the vocabulary of %ld (kIgnore = %d leaves a row out)", op,
          target[n], static_cast<long>(n), static_cast<long>(O), kIgnore);
  }
}

// lse (N) f64; ignored rows stay unwritten.
static Tensor lse_of_rows(const Tensor& logits, const int32_t* target) {
  const int64_t O = logits.dim(-1), N = row_count(logits);
  const Tensor lse = Tensor::empty({N}, Dtype::f64);
  by_dtype("cross_entropy", logits.dtype(), [&]<class T>(T) {
    parallel_for(N, row_grain(O), [&](int64_t begin, int64_t end) {
      for (int64_t n = begin; n < end; n++) {
        if (target[n] != kIgnore) lse.data<double>()[n] = cpu::log_sum_exp(logits.data<T>() + n * O, O);
      }
    });
  });
  return lse;
}

static double element(const Tensor& t, int64_t i) {
  return t.dtype() == Dtype::f64 ? t.data<double>()[i] : t.data<float>()[i];
}

static Tensor cross_entropy_bwd(double dloss, const Tensor& logits, const Tensor& targets, const Tensor& lse,
                                double z_loss, int64_t counted) {
  const int64_t O = logits.dim(-1), N = row_count(logits);
  const Tensor dx = empty_like(logits);
  const int32_t* target = targets.data<int32_t>();
  const double weight = counted ? dloss / static_cast<double>(counted) : 0;
  by_dtype("cross_entropy", logits.dtype(), [&]<class T>(T) {
    parallel_for(N, row_grain(O), [&](int64_t begin, int64_t end) {
      for (int64_t n = begin; n < end; n++) {
        T* row = dx.data<T>() + n * O;
        if (target[n] == kIgnore) {
          std::fill_n(row, O, T(0));
          continue;
        }
        const double l = lse.data<double>()[n];
        cpu::scaled_softmax(row, logits.data<T>() + n * O, l, weight * (1 + 2 * z_loss * l), O);
        row[target[n]] -= static_cast<T>(weight);
      }
    });
  });
  return dx;
}

Var cross_entropy(const Var& logits, const Tensor& targets, double z_loss) {
  const Tensor& x = logits.value();
  check_targets("cross_entropy", x, targets);
  const int32_t* target = targets.data<int32_t>();
  const Tensor lse = lse_of_rows(x, target);
  const int64_t O = x.dim(-1);
  int64_t counted = 0;
  double sum = 0;
  for (int64_t n = 0; n < row_count(x); n++) {
    if (target[n] == kIgnore) continue;
    const double l = lse.data<double>()[n];
    sum += l - element(x, n * O + target[n]) + z_loss * l * l;
    counted++;
  }
  const Tensor loss = Tensor::full({1}, counted ? sum / static_cast<double>(counted) : 0, x.dtype());
  return record("cross_entropy", {logits}, loss, [=, x = x](const Tensor& dy, Grads& grads) {
    grads.give(0, cross_entropy_bwd(dy.item(), x, targets, lse, z_loss, counted));
  });
}

Tensor token_nll(const Tensor& logits, const Tensor& targets) {
  check_targets("token_nll", logits, targets);
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
