#include <cmath>

#include "kernels/cuda.h"
#include "kernels/dispatch.h"
#include "kernels/ops.h"
#include "tensor/parallel.h"

// join_attention: y = a o + b u,  a = e^lse / d,  b = e^mass / d,  d = e^lse + e^mass z
//   o (N,V)  lse (N)  [u; z] = far (N,V+1)  mass (N), all saved for backward with y (N,V).   gradients: =
//   do = a dy    du = b dy    dz = -b dy.y    dmass = a b dy.(u - z o) = -dlse

namespace supra {
namespace {

template <class T>
struct Shares {
  T near, far;  // a, b
};

// The larger exponent is subtracted from both. If z is 0, there are no far keys: then lse is subtracted, because mass may be
// any number, and the far weight, which has no effect, is only kept finite.
template <class T>
Shares<T> shares(T lse, T mass, T z) {
  const T shift = z == 0 ? lse : std::max(lse, mass);
  const T near = std::exp(lse - shift), far = std::exp(std::min<T>(mass - shift, 80)), inverse = 1 / (near + far * z);
  return {near * inverse, far * inverse};
}

}  // namespace

namespace cpu {

template <class T>
static void join_attention_fwd(T* y, const T* o, const T* lse, const T* far, const T* mass, int64_t N, int64_t V) {
  parallel_for(N, row_grain(V), [=](int64_t begin, int64_t end) {
    for (int64_t n = begin; n < end; n++) {
      const T* u = far + n * (V + 1);
      const Shares<T> w = shares(lse[n], mass[n], u[V]);
      for (int64_t i = n * V; i < (n + 1) * V; i++) y[i] = w.near * o[i] + w.far * u[i - n * V];
    }
  });
}

template <class T>
static void join_attention_bwd(T* all_do, T* dlse, T* dfar, T* dmass, const T* all_dy, const T* all_y, const T* all_o, const T* lse,
                               const T* far, const T* mass, int64_t N, int64_t V) {
  parallel_for(N, row_grain(V), [=](int64_t begin, int64_t end) {
    for (int64_t n = begin; n < end; n++) {
      const T *dy = all_dy + n * V, *y = all_y + n * V, *o = all_o + n * V, *u = far + n * (V + 1), z = u[V];
      T *const d_o = all_do + n * V, *const du = dfar + n * (V + 1);
      const Shares<T> w = shares(lse[n], mass[n], z);
      T along = 0, apart = 0;
      for (int64_t i = 0; i < V; i++) {
        d_o[i] = w.near * dy[i];
        du[i] = w.far * dy[i];
        along += dy[i] * y[i];
        apart += dy[i] * (u[i] - z * o[i]);
      }
      du[V] = -w.far * along;
      dmass[n] = w.near * w.far * apart;
      dlse[n] = -dmass[n];
    }
  });
}

}  // namespace cpu

Var join_attention(const Var& o, const Var& lse, const Var& far, const Var& mass) {
  Shape wide = o.shape();
  CHECK(!wide.empty(), "join_attention: o is one number, expected (B,T,H,V)");
  const int64_t N = row_count(o.value()), V = wide.back()++;
  const Shape rows(wide.begin(), wide.end() - 1);
  check_shape("join_attention", "lse", lse.shape(), rows);
  check_shape("join_attention", "far", far.shape(), wide);
  check_shape("join_attention", "mass", mass.shape(), rows);
  const Tensor y = empty_like(o.value());
  by_device("join_attention", y, OVERLOADS(cpu::join_attention_fwd), OVERLOADS(cuda::join_attention_fwd), y, o.value(),
            Wide{lse.value()}, far.value(), mass.value(), N, V);
  return record("join_attention", {o, lse, far, mass}, y,
                [=, o = o.value(), lse = lse.value(), far = far.value(), mass = mass.value()](const Tensor& dy, Grads& grads) {
    const Tensor d_o = empty_like(o), dlse = empty_like(lse), dfar = empty_like(far), dmass = empty_like(mass);
    by_device("join_attention", y, OVERLOADS(cpu::join_attention_bwd), OVERLOADS(cuda::join_attention_bwd), d_o, Wide{dlse}, dfar,
              dmass, dy, y, o, Wide{lse}, far, mass, N, V);
    grads.give(0, d_o);
    grads.give(1, dlse);
    grads.give(2, dfar);
    grads.give(3, dmass);
  });
}

}  // namespace supra
