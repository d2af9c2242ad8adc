#include "kernels/activation.h"
#include "kernels/by_rows.h"
#include "kernels/ops.h"

// swiglu (Shazeer, arXiv 2002.05202): y = silu(gate) up
//   gate_up (N,2F) = [gate; up], saved for backward   y (N,F).   dgate_up: =
//   dgate = dy up silu'(gate),  dup = dy silu(gate)

namespace supra {
namespace cpu {

static void swiglu_fwd(double* y, const double* gate_up, int64_t N, int64_t F) {
  for (int64_t row = 0; row < N; row++, y += F, gate_up += 2 * F) {
    for (int64_t i = 0; i < F; i++) y[i] = activate(Activation::silu, gate_up[i]) * gate_up[F + i];
  }
}

static void swiglu_bwd(double* dgate_up, const double* dy, const double* gate_up, int64_t N, int64_t F) {
  for (int64_t row = 0; row < N; row++, dgate_up += 2 * F, dy += F, gate_up += 2 * F) {
    for (int64_t i = 0; i < F; i++) {
      dgate_up[i] = dy[i] * gate_up[F + i] * activation_slope(Activation::silu, gate_up[i]);
      dgate_up[F + i] = dy[i] * activate(Activation::silu, gate_up[i]);
    }
  }
}

}  // namespace cpu

Var swiglu(const Var& gate_up) {
  Shape shape = gate_up.shape();
  CHECK(!shape.empty() && shape.back() % 2 == 0,
        "swiglu: input is %s, the last dimension holds gate and up and must be even", to_string(shape).c_str());
  const int64_t F = shape.back() /= 2, N = row_count(gate_up.value());
  const Tensor& in = gate_up.value();
  const Tensor y = Tensor::empty(shape, in.dtype(), in.device());
  by_rows("swiglu", in, N, F, KERNELS(swiglu_fwd), y, in, Count{N}, F);
  return record("swiglu", {gate_up}, y, [=, in = gate_up.value()](const Tensor& dy, Grads& grads) {
    const Tensor dx = empty_like(in);
    by_rows("swiglu", in, N, F, KERNELS(swiglu_bwd), dx, dy, in, Count{N}, F);
    grads.give(0, dx);
  });
}

}  // namespace supra
