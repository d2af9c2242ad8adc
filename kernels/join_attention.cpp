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

// The larger exponent is subtracted from both. Where z is 0 that is lse: the mass of nothing may be any number, and the
// weight that nobody uses is only kept finite.
template <class T>
Shares<T> shares(T lse, T mass, T z) {
  const T shift = z == 0 ? lse : std::max(lse, mass);
  const T near = std::exp(lse - shift), far = std::exp(std::min<T>(mass - shift, 80)), inverse = 1 / (near + far * z);
  return {near * inverse, far * inverse};
}

template <class T>
struct Inputs {
  const T *o, *lse, *far, *mass;
};

template <class T>
struct Gradients {
  T *o, *lse, *far, *mass;
};

template <class T>
void join(T* y, const Inputs<T>& in, int64_t n, int64_t V) {
  const T *o = in.o + n * V, *u = in.far + n * (V + 1);
  const Shares<T> w = shares(in.lse[n], in.mass[n], u[V]);
  y += n * V;
  for (int64_t i = 0; i < V; i++) y[i] = w.near * o[i] + w.far * u[i];
}

template <class T>
void join_bwd(const Gradients<T>& grads, const T* dy, const T* y, const Inputs<T>& in, int64_t n, int64_t V) {
  const T *o = in.o + n * V, *u = in.far + n * (V + 1), z = u[V];
  T *d_o = grads.o + n * V, *du = grads.far + n * (V + 1);
  const Shares<T> w = shares(in.lse[n], in.mass[n], z);
  dy += n * V, y += n * V;
  T along = 0, apart = 0;
  for (int64_t i = 0; i < V; i++) {
    d_o[i] = w.near * dy[i];
    du[i] = w.far * dy[i];
    along += dy[i] * y[i];
    apart += dy[i] * (u[i] - z * o[i]);
  }
  du[V] = -w.far * along;
  grads.mass[n] = w.near * w.far * apart;
  grads.lse[n] = -grads.mass[n];
}

template <class T>
Inputs<T> inputs(const Tensor& o, const Tensor& lse, const Tensor& far, const Tensor& mass) {
  return {o.data<T>(), lse.data<T>(), far.data<T>(), mass.data<T>()};
}

}  // namespace

Var join_attention(const Var& o, const Var& lse, const Var& far, const Var& mass) {
  Shape wide = o.shape();
  CHECK(!wide.empty(), "join_attention: o is one number, expected (B,T,H,V)");
  const int64_t N = row_count(o.value()), V = wide.back()++;
  const Shape rows(wide.begin(), wide.end() - 1);
  check_shape("join_attention", "lse", lse.shape(), rows);
  check_shape("join_attention", "far", far.shape(), wide);
  check_shape("join_attention", "mass", mass.shape(), rows);
  constexpr Device gpu = Device::cuda;
  const Tensor y = empty_like(o.value());
  by_device(
      "join_attention", y,
      [&]<class T>(T) {
        const Inputs<T> in = inputs<T>(o.value(), lse.value(), far.value(), mass.value());
        parallel_for(N, row_grain(V), [&](int64_t begin, int64_t end) {
          for (int64_t n = begin; n < end; n++) join(y.data<T>(), in, n, V);
        });
      },
      [&]<class T>(T) {
        cuda::join_attention_fwd(y.data<T>(gpu), o.value().data<T>(gpu), lse.value().data<float>(gpu),
                                 far.value().data<T>(gpu), mass.value().data<T>(gpu), N, V);
      });
  return record("join_attention", {o, lse, far, mass}, y,
                [=, o = o.value(), lse = lse.value(), far = far.value(), mass = mass.value()](const Tensor& dy, Grads& grads) {
    const Tensor d_o = empty_like(o), dlse = empty_like(lse), dfar = empty_like(far), dmass = empty_like(mass);
    by_device(
        "join_attention", y,
        [&]<class T>(T) {
          const Inputs<T> in = inputs<T>(o, lse, far, mass);
          const Gradients<T> to = {d_o.data<T>(), dlse.data<T>(), dfar.data<T>(), dmass.data<T>()};
          parallel_for(N, row_grain(V), [&](int64_t begin, int64_t end) {
            for (int64_t n = begin; n < end; n++) join_bwd(to, dy.data<T>(), y.data<T>(), in, n, V);
          });
        },
        [&]<class T>(T) {
          cuda::join_attention_bwd(d_o.data<T>(gpu), dlse.data<float>(gpu), dfar.data<T>(gpu), dmass.data<T>(gpu),
                                   dy.data<T>(gpu), y.data<T>(gpu), o.data<T>(gpu), lse.data<float>(gpu),
                                   far.data<T>(gpu), mass.data<T>(gpu), N, V);
        });
    grads.give(0, d_o);
    grads.give(1, dlse);
    grads.give(2, dfar);
    grads.give(3, dmass);
  });
}

}  // namespace supra
