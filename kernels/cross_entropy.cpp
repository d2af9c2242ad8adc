#include <cmath>
#include <numeric>
#include <vector>

#include "kernels/by_rows.h"
#include "kernels/cuda_cross_entropy.h"
#include "kernels/multiply.h"
#include "kernels/ops.h"

// cross_entropy: loss = mean over the rows whose target is not kIgnore of  lse - x_target + z lse^2
//   lse = log sum exp(x)   logits x (N,O)  targets (N)  loss (1)  nothing else saved for backward.   dx: =
//   dx = dloss / rows (softmax(x) (1 + 2 z lse) - onehot(target)); zero in ignored rows
// The z-loss keeps lse near zero (PaLM, arXiv 2204.02311, section 5).
//
// linear_cross_entropy: the same for logits = h w^T, which are never stored as a whole
//   h (N,C)  w (O,C)  loss (1)  dh, dw saved for backward, where they are only multiplied by dloss
// With a teacher's logits t, p = softmax(t):
//   loss of a row = (1 - a) (lse - x_target) + a sum p (log p - x + lse) + z lse^2
//   dx = weight (softmax(x) (1 + 2 z lse) - (1 - a) onehot(target) - a p)
// A block of rows goes through all three products while its logits are in the cache: logits = h w^T, dh = dlogits w,
// dw += dlogits^T h.
//
// On the GPU logits, losses and their sum are f32; dlogits and h may be bf16. Nothing waits for the loss.

namespace supra {
namespace cpu {

static double log_sum_exp(const double* x, int64_t O) {
  const double largest = *std::max_element(x, x + O);
  double total = 0;
  for (int64_t i = 0; i < O; i++) total += std::exp(x[i] - largest);
  return largest + std::log(total);
}

// y = softmax(x) * factor, or += if `add` is set
static void scaled_softmax(double* y, const double* x, double lse, double factor, int64_t O, bool add) {
  for (int64_t i = 0; i < O; i++) y[i] = (add ? y[i] : 0) + std::exp(x[i] - lse) * factor;
}

// sum p (t - x), p = softmax(t)
static double weighted_gap(const double* t, const double* x, double lse, int64_t O) {
  double total = 0;
  for (int64_t i = 0; i < O; i++) total += std::exp(t[i] - lse) * (t[i] - x[i]);
  return total;
}

static double log_sum_exp(const float* x, int64_t O) {
  float largest;
  double total;
  simd().max_exp_sum(&largest, &total, x, O);
  return largest + std::log(total);
}

// The kernels subtract lse as a float. What it loses by that goes into the factor.
static void scaled_softmax(float* y, const float* x, double lse, double factor, int64_t O, bool add) {
  const float shift = static_cast<float>(lse);
  simd().exp_scaled(y, x, shift, static_cast<float>(factor * std::exp(shift - lse)), O, add);
}

static double weighted_gap(const float* t, const float* x, double lse, int64_t O) {
  const float shift = static_cast<float>(lse);
  double total;
  simd().exp_weighted_gap(&total, t, x, shift, O);
  return total * std::exp(shift - lse);
}

// x (n) *= factor[0]
template <class T>
static void scale_by(T* x, const T* factor, int64_t n) {
  const T by = *factor;
  for (int64_t i = 0; by != 1 && i < n; i++) x[i] *= by;
}

}  // namespace cpu

constexpr Device gpu = Device::cuda;

// The ids on the device of the logits, checked on the CPU before anything else is done, and the weight of a row in the mean:
// 1 / the number of rows with a target.
struct Targets {
  Tensor ids;
  double share;
};
static Targets checked(const char* op, const Tensor& targets, int64_t N, int64_t O, Device device) {
  CHECK(O > 0 && targets.numel() == N, "%s: targets are %s, expected one for each of %ld rows of %ld logits", op,
        to_string(targets.shape()).c_str(), static_cast<long>(N), static_cast<long>(O));
  const Tensor here = targets.to(Device::cpu);
  const int32_t* target = here.data<int32_t>();
  int64_t counted = 0;
  for (int64_t n = 0; n < N; n++) {
    CHECK(target[n] == kIgnore || (target[n] >= 0 && target[n] < O),
          "%s: target %d in row %ld is outside of the vocabulary of %ld (kIgnore = %d leaves a row out)", op, target[n],
          static_cast<long>(n), static_cast<long>(O), kIgnore);
    counted += target[n] != kIgnore;
  }
  return {here.to(device), counted ? 1 / static_cast<double>(counted) : 0};
}

// (1) = factor * the sum of losses
static Tensor total(const Tensor& losses, double factor, Dtype dtype) {
  const Tensor loss = Tensor::empty({1}, dtype, losses.device());
  if (losses.device() == gpu)
    cuda::scaled_sum(loss.data<float>(gpu), losses.data<float>(gpu), losses.numel(), factor);
  else
    loss.fill(std::accumulate(losses.data<double>(), losses.data<double>() + losses.numel(), 0.0) * factor);
  return loss;
}

// For the losses of N rows, on the device of x: f64 on the CPU.
static Tensor empty_losses(const Tensor& x, int64_t N) {
  return Tensor::empty({N}, x.device() == gpu ? Dtype::f32 : Dtype::f64, x.device());
}

// Factors of a row's loss; `weight` is a factor of its gradient alone.
struct TokenWeights {
  double z_loss, weight, teacher = 0;
};

// The loss of a row, and its gradient where dx is not null; dx may be x. t: the teacher's logits, or null.
template <class T>
static double differentiate_row(T* dx, const T* x, const T* t, int32_t target, int64_t O, const TokenWeights& w) {
  if (target == kIgnore) {
    if (dx) std::fill_n(dx, O, T(0));
    return 0;
  }
  const double lse = cpu::log_sum_exp(x, O), x_target = x[target], own = 1 - w.teacher;
  const double teacher_lse = t ? cpu::log_sum_exp(t, O) : 0;
  double loss = own * (lse - x_target) + w.z_loss * lse * lse;
  if (t) loss += w.teacher * (cpu::weighted_gap(t, x, teacher_lse, O) - teacher_lse + lse);
  if (!dx) return loss;
  cpu::scaled_softmax(dx, x, lse, w.weight * (1 + 2 * w.z_loss * lse), O, false);
  if (t) cpu::scaled_softmax(dx, t, teacher_lse, -w.weight * w.teacher, O, true);
  dx[target] -= static_cast<T>(w.weight * own);
  return loss;
}

// losses (N): =   dx (N,O): =, may be x   teacher (N,O)   dy (1), a factor of the gradients; all but x and targets may be
// undefined
static void differentiate(const char* op, const Tensor& losses, const Tensor& dx, const Tensor& x,
                          const Tensor& teacher, const Tensor& targets, const Tensor& dy, TokenWeights w) {
  const int64_t O = x.dim(-1), N = row_count(x);
  const auto on_cpu = [&]<class T>(T) {
    if (dy.defined()) w.weight *= dy.item();
    parallel_each(N, row_grain(O), [&](int64_t n) {
      const double loss =
          differentiate_row(at<T>(dx, n * O), at<T>(x, n * O), at<T>(teacher, n * O), *at<int32_t>(targets, n), O, w);
      if (losses.defined()) losses.data<double>()[n] = loss;
    });
  };
  const auto on_gpu = [&]<class T>(T) {
    differentiate_on_gpu<T>(losses, dx, x, teacher, targets, dy, {N, O, float(w.z_loss), float(w.weight), float(w.teacher)});
  };
  by_device(op, dx.defined() ? dx : x, on_cpu, on_gpu);
}

Var cross_entropy(const Var& logits, const Tensor& targets, double z_loss) {
  constexpr const char* op = "cross_entropy";
  const Tensor& x = logits.value();
  const Targets counted = checked(op, targets, row_count(x), x.dim(-1), x.device());
  const Tensor losses = empty_losses(x, row_count(x));
  differentiate(op, losses, {}, x, {}, counted.ids, {}, {z_loss, 1});
  const Tensor loss = total(losses, counted.share, sum_dtype(x.dtype()));
  return record(op, {logits}, loss, [=, x = x](const Tensor& dy, Grads& grads) {
    const Tensor dx = empty_like(x);
    differentiate(op, {}, dx, x, {}, counted.ids, dy, {z_loss, counted.share});
    grads.give(0, dx);
  });
}

Var linear_cross_entropy(const Var& h, const Var& w, const Tensor& targets, double z_loss,
                         const Distillation& distillation, double cap) {
  constexpr const char* op = "linear_cross_entropy";
  CHECK(w.value().rank() == 2 && h.value().rank() == 2 && h.dim(1) == w.dim(1),
        "linear_cross_entropy: weight is %s, input %s; (O,C) and (N,C) are needed", to_string(w.shape()).c_str(),
        to_string(h.shape()).c_str());
  const Tensor& x = h.value();
  const int64_t N = h.dim(0), O = w.dim(0);
  const Targets counted = checked(op, targets, N, O, x.device());
  const TokenWeights weights = {z_loss, counted.share, distillation.weight};
  const bool keep = will_record({h, w}), taught = distillation.weight > 0;
  const Tensor dh = keep && h.requires_grad() ? empty_like(x) : Tensor();
  const Tensor dw = keep && w.requires_grad() ? empty_like(w.value()) : Tensor();
  // rounded once, not for each block
  const Tensor matrix = x.device() == gpu ? w.value().to(x.dtype()) : w.value();
  const int64_t block = std::clamp<int64_t>(kLogitsAtOnce / O / 32 * 32, 32, std::max<int64_t>(32, N));
  const Tensor logits = Tensor::empty({std::min(block, N), O}, sum_dtype(x.dtype()), x.device());
  // gradients are written over logits of their dtype, unless the cap's backward still needs these
  const bool in_place = logits.dtype() == x.dtype() && cap == 0;
  const Tensor dlogits = !keep ? Tensor() : in_place ? logits : Tensor::empty(logits.shape(), x.dtype(), x.device());
  const Tensor teacher = taught ? empty_like(logits) : Tensor(), losses = empty_losses(x, N), ids = counted.ids.view({-1});
  for (int64_t n = 0; n < N; n += block) {
    const int64_t end = std::min(n + block, N);
    const Tensor from = x.rows(n, end), product = logits.rows(0, end - n), dy = keep ? dlogits.rows(0, end - n) : Tensor();
    multiply(op, product, false, from, false, matrix, true);
    const Tensor y = cap > 0 ? capped(op, product, cap) : product;
    if (taught) distillation.teacher(n, y, teacher.rows(0, end - n));
    differentiate(op, losses.rows(n, end), dy, y, teacher, ids.rows(n, end), {}, weights);
    // d capped = cap tanh'(product) d product
    if (cap > 0 && keep) through_cap(op, dy, product.to(dy.dtype()), cap);
    if (dh.defined()) multiply(op, dh.rows(n, end), false, dy, false, matrix, false);
    if (dw.defined()) multiply(op, dw, n > 0, dy, true, from, false);
  }
  if (dw.defined() && N == 0) dw.fill(0);
  const Tensor loss = total(losses, weights.weight, sum_dtype(x.dtype()));
  return record(op, {h, w}, loss, [=](const Tensor& dy, Grads& grads) {
    const auto give = [&](size_t input, const Tensor& gradient) {
      if (!gradient.defined()) return;
      by_device(op, gradient, OVERLOADS(cpu::scale_by), OVERLOADS(cuda::scale_by), gradient, Wide{dy}, gradient.numel());
      grads.give(input, gradient);
    };
    give(0, dh);
    give(1, dw);
  });
}

Tensor log_sum_exp(const Tensor& logits) {
  const int64_t O = logits.dim(-1), N = row_count(logits);
  const Tensor lse = Tensor::empty({N}, Dtype::f64);
  const auto on_cpu = [&]<class T>(T) {
    parallel_each(N, row_grain(O), [&](int64_t n) { *at<double>(lse, n) = cpu::log_sum_exp(at<T>(logits, n * O), O); });
  };
  by_device("log_sum_exp", logits, on_cpu, [](auto) { fail("log_sum_exp: works on the CPU (move the logits with to())"); });
  return lse;
}

Tensor token_nll(const Tensor& logits, const Tensor& targets) {
  const int64_t N = row_count(logits);
  const Tensor ids = checked("token_nll", targets, N, logits.dim(-1), logits.device()).ids, losses = empty_losses(logits, N);
  differentiate("token_nll", losses, {}, logits, {}, ids, {}, {0, 0});
  return losses.to(Dtype::f32);
}

}  // namespace supra
