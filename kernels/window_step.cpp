#include "kernels/cuda_attention.h"
#include "kernels/decode_heads.h"

// window_step: k and v of position p are written to its slot of the ring; then
//   o = softmax attention over the min(p + 1, sinks + window) slots in use, whose order does not matter.   No backward

namespace supra {
namespace {

using Sizes = cuda::WindowStepSizes;

Sizes check(const Ring& ring, const Tensor& q, const Tensor& q_sinks, const Tensor& k, const Tensor& v, const Scores& scores,
            const std::vector<int64_t>& positions) {
  const char* op = "window_step";
  check_heads(op, q, ring.k, ring.v);
  const Sizes n = {q.dim(0), q.dim(2), ring.k.dim(2), q.dim(3), ring.v.dim(3), ring.window, ring.sinks,
                   static_cast<float>(scores.inner()), static_cast<float>(scores.cap)};
  const int64_t slots = n.sinks + n.window;
  check_shape(op, "q", q.shape(), {n.B, 1, n.H, n.K});
  check_shape(op, "q of the sinks", q_sinks.shape(), q.shape());
  check_shape(op, "k", k.shape(), {n.B, 1, n.G, n.K});
  check_shape(op, "v", v.shape(), {n.B, 1, n.G, n.V});
  check_shape(op, "the ring's k", ring.k.shape(), {n.B, slots, n.G, n.K});
  check_shape(op, "the ring's v", ring.v.shape(), {n.B, slots, n.G, n.V});
  CHECK(ring.window > 0 && ring.sinks >= 0, "%s: a window of %ld keys and %ld sinks", op, static_cast<long>(ring.window),
        static_cast<long>(ring.sinks));
  CHECK(std::ssize(positions) == n.B, "%s: %zu positions for %ld rows", op, positions.size(), static_cast<long>(n.B));
  for (const int64_t p : positions) CHECK(p >= 0, "%s: position %ld", op, static_cast<long>(p));
  return n;
}

}  // namespace

WindowStep window_step(const Ring& ring, const Tensor& q, const Tensor& q_sinks, const Tensor& k, const Tensor& v,
                       const Scores& scores, const std::vector<int64_t>& positions, bool with_old) {
  const Sizes n = check(ring, q, q_sinks, k, v, scores, positions);
  const Device device = q.device();
  // the GPU writes all elements
  const auto fresh = device == Device::cuda ? Tensor::empty : Tensor::zeros;
  WindowStep step;
  step.o = Tensor::empty({n.B, 1, n.H, n.V}, q.dtype(), device), step.lse = Tensor::empty({n.B, 1, n.H}, Dtype::f32, device);
  if (with_old) step.old_k = fresh(k.shape(), q.dtype(), device), step.old_v = fresh({n.B, 1, n.G, n.V + 1}, q.dtype(), device);
  if (device == Device::cuda) {
    window_step_on_gpu(step, ring, q, q_sinks, k, v, positions, n);
    return step;
  }
  const Dtype kept = ring.k.dtype();
  const auto bytes = static_cast<int64_t>(size_of(kept));
  CHECK(q.dtype() == Dtype::f32 && ring.v.dtype() == kept && (kept == Dtype::f32 || kept == Dtype::f16),
        "window_step: works on f32 with a ring in f32 or f16, not %s with %s and %s", name(q.dtype()), name(kept),
        name(ring.v.dtype()));
  const int64_t heads = n.H / n.G, slots = n.sinks + n.window;
  parallel_each(n.B * n.G, decode_grain(heads, slots, n.K + n.V), [&](int64_t i) {
    const int64_t b = i / n.G, g = i % n.G, h = i * heads, p = positions[b], slot = ring_slot(p, n.sinks, n.window);
    // the key or value of this head in a slot
    const auto at = [&](const Tensor& part, int64_t s, int64_t dim) {
      return static_cast<char*>(part.raw(Device::cpu)) + ((b * slots + s) * n.G + g) * dim * bytes;
    };
    if (with_old && p >= slots) {
      float* old_v = step.old_v.data<float>() + i * (n.V + 1);
      convert(step.old_k.data<float>() + i * n.K, Dtype::f32, at(ring.k, slot, n.K), kept, n.K);
      convert(old_v, Dtype::f32, at(ring.v, slot, n.V), kept, n.V);
      old_v[n.V] = 1;
    }
    convert(at(ring.k, slot, n.K), kept, k.data<float>() + i * n.K, Dtype::f32, n.K);
    convert(at(ring.v, slot, n.V), kept, v.data<float>() + i * n.V, Dtype::f32, n.V);
    const DecodeKeys keys = {at(ring.k, 0, n.K), at(ring.v, 0, n.V), kept, std::min(p + 1, slots),
                             n.sinks, n.G * n.K, n.G * n.V};
    decode_heads(step.o.data<float>() + h * n.V, step.lse.data<float>() + h, q.data<float>() + h * n.K,
                 q_sinks.data<float>() + h * n.K, keys, heads, n.K, n.V, n.scale, n.cap);
  });
  return step;
}

}  // namespace supra
