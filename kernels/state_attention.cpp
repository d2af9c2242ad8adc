#include "kernels/state_attention.h"

namespace supra {

StateSizes state_sizes(const char* op, const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& log_decay, const Tensor& state,
                       double scale, std::vector<int64_t> lengths, const Cuts& cuts) {
  CHECK(q.rank() == 4 && k.rank() == 4 && v.rank() == 4,
        "%s: q is %s, k is %s, v is %s, expected (B,T,heads,dim) each", op, to_string(q.shape()).c_str(),
        to_string(k.shape()).c_str(), to_string(v.shape()).c_str());
  StateSizes n = {q.dim(0), q.dim(1), q.dim(2), k.dim(2), v.dim(2), q.dim(3), v.dim(3), log_decay.rank() == 3,
                  scale,    {},       cuts};
  check_shape(op, "k", k.shape(), {n.B, n.T, n.Gk, n.K});
  check_shape(op, "v", v.shape(), {n.B, n.T, n.Gv, n.V});
  CHECK(n.Gk > 0 && n.Gv > 0 && n.H % n.Gk == 0 && n.H % n.Gv == 0,
        "%s: %ld query heads cannot share %ld key heads and %ld value heads evenly", op,
        static_cast<long>(n.H), static_cast<long>(n.Gk), static_cast<long>(n.Gv));
  if (n.decay_by_token)
    check_shape(op, "log_decay", log_decay.shape(), {n.B, n.T, n.H});
  else
    check_shape(op, "log_decay", log_decay.shape(), {n.H});
  if (state.defined()) check_shape(op, "state", state.shape(), {n.B, n.H, n.K, n.V});
  if (lengths.empty()) lengths.assign(n.B, n.T);
  CHECK(static_cast<int64_t>(lengths.size()) == n.B, "%s: %zu lengths for %ld rows", op, lengths.size(),
        static_cast<long>(n.B));
  for (int64_t length : lengths) {
    CHECK(length >= 0 && length <= n.T, "%s: a row of length %ld, expected 0 to %ld", op,
          static_cast<long>(length), static_cast<long>(n.T));
  }
  check_cuts(op, cuts, lengths);
  n.lengths = std::move(lengths);
  return n;
}

LinearAttentionHead state_head(const StateInputs<float>& in, const StateSizes& n, int64_t b, Segment document, int64_t h) {
  const int64_t t = document.begin;
  LinearAttentionHead head = {};
  head.steps = document.end - t, head.K = n.K, head.V = n.V, head.chunk = linear_chunk(n.K, n.V);
  head.q = in.q + n.q_at(b, t, h), head.k = in.k + n.k_at(b, t, h), head.v = in.v + n.v_at(b, t, h);
  head.q_step = n.H * n.K, head.k_step = n.Gk * n.K, head.v_step = n.Gv * n.V, head.o_step = n.H * n.V;
  head.scale = static_cast<float>(n.scale);
  if (n.decay_by_token) head.log_decay = in.log_decay + n.decay_at(b, t, h), head.log_decay_step = n.H;
  if (in.state && t == 0) head.state = in.state + n.state_at(b, h);
  return head;
}

LinearAttentionGrads state_grads(const StateGradients<float>& grads, const StateSizes& n, int64_t b, int64_t t, int64_t h) {
  return {grads.dq + n.q_at(b, t, h),
          grads.dk + n.k_at(b, t, h),
          grads.dv + n.v_at(b, t, h),
          grads.dstate + n.state_at(b, h),
          grads.dlog_decay ? grads.dlog_decay + n.token_at(b, t, h) : nullptr,
          n.H,
          h % (n.H / n.Gk) > 0,
          h % (n.H / n.Gv) > 0};
}

}  // namespace supra
