#include <cmath>

#include "kernels/by_rows.h"
#include "kernels/ops.h"

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
  for (int64_t n = 0; n < N; n++, y += V, o += V, far += V + 1) {
    const Shares<T> w = shares(lse[n], mass[n], far[V]);
    for (int64_t i = 0; i < V; i++) y[i] = w.near * o[i] + w.far * far[i];
  }
}

template <class T>
static void join_attention_bwd(T* d_o, T* dlse, T* dfar, T* dmass, const T* dy, const T* y, const T* o, const T* lse,
                               const T* far, const T* mass, int64_t N, int64_t V) {
  for (int64_t n = 0; n < N; n++, d_o += V, dfar += V + 1, dy += V, y += V, o += V, far += V + 1) {
    const T z = far[V];
    const Shares<T> w = shares(lse[n], mass[n], z);
    T along = 0, apart = 0;
    for (int64_t i = 0; i < V; i++) {
      d_o[i] = w.near * dy[i];
      dfar[i] = w.far * dy[i];
      along += dy[i] * y[i];
      apart += dy[i] * (far[i] - z * o[i]);
    }
    dfar[V] = -w.far * along;
    dmass[n] = w.near * w.far * apart;
    dlse[n] = -dmass[n];
  }
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
  by_rows("join_attention", y, N, V, PLAIN_KERNELS(join_attention_fwd), y, o.value(), PerRow{lse.value()}, far.value(),
          mass.value(), Count{N}, V);
  return record("join_attention", {o, lse, far, mass}, y,
                [=, o = o.value(), lse = lse.value(), far = far.value(), mass = mass.value()](const Tensor& dy, Grads& grads) {
    const Tensor d_o = empty_like(o), dlse = empty_like(lse), dfar = empty_like(far), dmass = empty_like(mass);
    by_rows("join_attention", y, N, V, PLAIN_KERNELS(join_attention_bwd), d_o, PerRow{dlse}, dfar, dmass, dy, y, o, PerRow{lse},
            far, mass, Count{N}, V);
    grads.give(0, d_o);
    grads.give(1, dlse);
    grads.give(2, dfar);
    grads.give(3, dmass);
  });
}

}  // namespace supra
