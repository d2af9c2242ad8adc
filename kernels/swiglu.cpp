#include "kernels/activation.h"
#include "kernels/cuda.h"
#include "kernels/dispatch.h"
#include "kernels/ops.h"
#include "kernels/simd.h"
#include "tensor/parallel.h"

// swiglu, geglu (Shazeer, arXiv 2002.05202): y = f(gate) up, f = silu or gelu
//   gate_up (N,2F) = [gate; up], saved for backward   y (N,F).   dgate_up: =
//   dgate = dy up f'(gate),  dup = dy f(gate)

namespace supra {
namespace cpu {

static void gated_fwd(double* y, const double* gate_up, int64_t N, int64_t F, Activation f) {
  for (int64_t row = 0; row < N; row++, y += F, gate_up += 2 * F) {
    for (int64_t i = 0; i < F; i++) y[i] = activate(f, gate_up[i]) * gate_up[F + i];
  }
}

static void gated_bwd(double* dgate_up, const double* dy, const double* gate_up, int64_t N, int64_t F,
                      Activation f) {
  for (int64_t row = 0; row < N; row++, dgate_up += 2 * F, dy += F, gate_up += 2 * F) {
    for (int64_t i = 0; i < F; i++) {
      dgate_up[i] = dy[i] * gate_up[F + i] * activation_slope(f, gate_up[i]);
      dgate_up[F + i] = dy[i] * activate(f, gate_up[i]);
    }
  }
}

static void gated_fwd(float* y, const float* gate_up, int64_t N, int64_t F, Activation f) {
  parallel_for(N, row_grain(F), [&](int64_t begin, int64_t end) {
    simd().gated_fwd(y + begin * F, gate_up + begin * 2 * F, end - begin, F, f);
  });
}

static void gated_bwd(float* dgate_up, const float* dy, const float* gate_up, int64_t N, int64_t F,
                      Activation f) {
  parallel_for(N, row_grain(F), [&](int64_t begin, int64_t end) {
    simd().gated_bwd(dgate_up + begin * 2 * F, dy + begin * F, gate_up + begin * 2 * F, end - begin, F, f);
  });
}

}  // namespace cpu

static Var gated(const char* op, const Var& gate_up, Activation f) {
  Shape shape = gate_up.shape();
  CHECK(!shape.empty() && shape.back() % 2 == 0,
        "%s: input is %s, the last dimension holds gate and up and must be even", op,
        to_string(shape).c_str());
  const int64_t F = shape.back() /= 2, N = row_count(gate_up.value());
  const Tensor& in = gate_up.value();
  const Tensor y = Tensor::empty(shape, in.dtype(), in.device());
  by_device(op, in, OVERLOADS(cpu::gated_fwd), OVERLOADS(cuda::gated_fwd), y, in, N, F, f);
  return record(op, {gate_up}, y, [=, in = gate_up.value()](const Tensor& dy, Grads& grads) {
    const Tensor dx = empty_like(in);
    by_device(op, in, OVERLOADS(cpu::gated_bwd), OVERLOADS(cuda::gated_bwd), dx, dy, in, N, F, f);
    grads.give(0, dx);
  });
}

Var swiglu(const Var& gate_up) { return gated("swiglu", gate_up, Activation::silu); }

Var geglu(const Var& gate_up, Gelu kind) {
  return gated("geglu", gate_up, kind == Gelu::erf ? Activation::gelu_erf : Activation::gelu_tanh);
}

}  // namespace supra
