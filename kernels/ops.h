#pragma once
#include <cstdint>
#include <functional>
#include <vector>

#include "autograd/var.h"

// All operations: read this first. All files of an operation have the same name: foo.cpp contains the formula, the reference
// (for gradient checks in double) and the Var operation with its backward; foo.simd.cpp contains the fast CPU code. Linear and
// delta attention share their reference, backward and dispatch: state_attention.cpp.
//
// Shape letters, the same in the whole project: B batch, T time, C channels (model width), H query heads, G key/value heads, K
// key dim of a head, V value dim of a head, N = B*T rows, O vocabulary, F MLP width, L layers.
// Sequence-first: q (B,T,H,K). If an op works on rows, all dimensions but the last are rows. f32 runs the fast path, f64 the
// reference; other dtypes throw.

namespace supra {

// ---- matmul.cpp
// y (..., O) = x (..., C) w(O,C)^T + bias (O); the bias may be left out
Var linear(const Var& x, const Var& w, const Var& bias = {});
// relu(linear(x, w, bias)), the feature map: one product on the GPU. Slope::later: backward uses dy unchanged, so the op
// that reads y must give a dy that is 0 where y is 0, as relu_slope(y) does.
enum class Slope { here, later };
Var linear_relu(const Var& x, const Var& w, const Var& bias = {}, Slope slope = Slope::here);
// headwise_linear.cpp: each head is multiplied by its own matrix: x (..., H*I), w (H*K, I), bias (H*K) -> (..., H*K)
Var headwise_linear(const Var& x, const Var& w, const Var& bias, int64_t heads);
// c (M,N) = a (M,K) b (K,N)
Var matmul(const Var& a, const Var& b);

// ---- embedding.cpp
// y (..., C) = w[ids]; ids i32 of any shape, w (O,C). An id outside [0, O) throws; if the ids are on a GPU, it gives NaN. y is
// on w's device, in f64 if the table is f64, otherwise in f32, or on the GPU in the dtype `activations`.
Var embedding(const Tensor& ids, const Var& w, Dtype activations = Dtype::f32);

// ---- elementwise.cpp. Shapes are equal, nothing is broadcast.
Var add(const Var& a, const Var& b);
Var mul(const Var& a, const Var& b);
Var scale(const Var& x, double factor);
Var relu(const Var& x);
Var relu_slope(const Var& y);  // returns y; backward sets dy to 0 where y is 0: the backward of relu, if y is its output
Var silu(const Var& x);        // x * sigmoid(x)
Var sigmoid(const Var& x);
Var log_sigmoid(const Var& x);
Var tanh(const Var& x);
Var soft_cap(const Var& x, double cap);  // cap tanh(x / cap)
Var hard_cap(const Var& x, double cap);  // min(max(x, -cap), cap)
enum class Gelu { erf, tanh };
Var gelu(const Var& x, Gelu kind = Gelu::erf);

// ---- swiglu.cpp. gate_up (..., 2F) = [gate; up] -> silu(gate) * up (..., F)
Var swiglu(const Var& gate_up);

// ---- rmsnorm.cpp, layernorm.cpp, groupnorm.cpp. Over the last dimension, each row separately.
Var rmsnorm(const Var& x, const Var& w, double eps);                  // w x / sqrt(mean(x^2) + eps)
Var layernorm(const Var& x, const Var& w, const Var& b, double eps);  // w and b may be left out
// Each of the `groups` equal parts of a row is normalised to mean 0 and variance 1; there are no weights.
Var groupnorm(const Var& x, int64_t groups, double eps);

// ---- relative_error.cpp. sum |y - t|^2 / sum |t|^2 over rows b and their first lengths[b] steps (empty: all)
//   y, t (B,T,C)  ->  (1).  The loss of attention transfer; t gets no gradient.
Var relative_error(const Var& y, const Tensor& t, const std::vector<int64_t>& lengths = {});

// ---- ratio.cpp. x (..., V+1) -> (..., V): each value over (the last + eps)
Var divide_by_last(const Var& x, double eps);

// ---- layout.cpp
Var reshape(const Var& x, Shape shape);
std::vector<Var> split_columns(const Var& x, const Shape& widths);  // of the last dimension, copied
Var concat_columns(const std::vector<Var>& parts);          // along the last dimension
Var cast(const Var& x, Dtype dtype);                        // the same numbers in another dtype; returns x if it has that dtype
Var repeat_heads(const Var& x, int64_t times);              // (B,T,G,K) -> (B,T,G*times,K), head g to g*times ...

// ---- take_rows.cpp: y (M,D): row m is row index[m] of the sources (N1,D), (N2,D), ..., numbered through all of them in
// order; for index -1 it is zeros. A row may be taken several times: backward adds in the order of m.
Var take_rows(const std::vector<Var>& sources, const std::vector<int64_t>& index);

// Where packed documents begin: (B) ascending columns > 0 of each row; empty: no cuts. From a cut on, positions count from 0 and
// nothing before it is seen.
using Cuts = std::vector<std::vector<int64_t>>;

// ---- rope.cpp
struct Rope {
  // half: pairs (i, i + dims/2), as NeoX and Hugging Face; interleaved: pairs (2i, 2i+1), as Meta and llama2.c;
  // by_head: OpenLM's historic bug kept for its checkpoints: half, but the angle follows the head, not the position.
  enum class Layout { none, half, interleaved, by_head };
  Layout layout = Layout::half;
  double base = 10000;
  double scale = 1;   // positions are divided by it
  int64_t dims = 0;   // the first `dims` of each head are rotated; 0: all
  // One number per pair, or empty: the pair's frequency is divided by it. llama3 and yarn use this for longer contexts.
  std::vector<double> divisors = {};
  double magnitude = 1;  // cos and sin are multiplied by it (yarn)
  // A call that reaches beyond `trained` tokens uses other frequencies at all its positions, if there are any: long_divisors
  // (longrope), or a larger base (dynamic NTK): base (dynamic length / trained - (dynamic - 1))^(dims / (dims - 2)).
  int64_t trained = 0;
  std::vector<double> long_divisors = {};
  double dynamic = 0;
  // Positions from held_from on are rotated as position held_at; 0: off. See supra/window_attention.h.
  int64_t held_from = 0, held_at = 0;
  bool operator==(const Rope&) const = default;
};
// x (B,T,H,K); the first step of row b is at position first[b]
Var rope(const Var& x, const Rope& rope, const std::vector<int64_t>& first, const Cuts& cuts = {});

// ---- softmax_attention.cpp
// o (B,T,H,V): query t of row b is at index first[b] + t of the keys and sees the keys up to itself, or only the last
// `window` of them if that is not 0. After a cut it sees no key before the cut.
// q (B,T,H,K)  k (B,S,G,K)  v (B,S,G,V), S >= first[b] + T; query head h uses key head h / (H/G).
struct Scores {
  double scale;
  double cap;  // 0: none; else a score s = scale q k counts as cap tanh(s / cap)

  Scores(double scale, double cap = 0) : scale(scale), cap(cap) {}
  double inner() const { return cap > 0 ? scale / cap : scale; }  // of products, before the tanh
};
Var softmax_attention(const Var& q, const Var& k, const Var& v, const Scores& scores, const std::vector<int64_t>& first,
                      int64_t window = 0, const Cuts& cuts = {});
// The same, but a query also sees attention sinks (arXiv 2309.17453): the first keys of its document, unless they are in
// its future. If q_sinks (B,T,H,K) is given, it is used for the sinks instead of q. lse (B,T,H) is the log-sum-exp of the
// scores, which join_attention() needs.
struct SoftmaxPart {
  Var o, lse;
};
SoftmaxPart softmax_attention_with_sinks(const Var& q, const Var& q_sinks, const Var& k, const Var& v, const Scores& scores,
                                         const std::vector<int64_t>& first, int64_t window, int64_t sinks, const Cuts& cuts = {});

// ---- window_step.cpp: one step (T = 1) of softmax attention over sinks and a window, in place. For inference.
// The keys of a sequence are in a ring of sinks + window slots: position p is in slot p < sinks ? p : sinks + (p - sinks) % window.
//   ring k (B,S,G,K), v (B,S,G,V), f32 or f16, on the GPU as q; q, q_sinks (B,1,H,K)  k (B,1,G,K)  v (B,1,G,V)
//   positions[b]: the position of row b's step; k and v are written to its slot before the query is answered
// The key and value that they replace are returned: old_k (B,1,G,K) and old_v (B,1,G,V+1), whose last column is 1. Both
// are 0 if nothing left the window, and undefined without `with_old`.
struct WindowStep {
  Tensor o, lse;  // (B,1,H,V), (B,1,H)
  Tensor old_k, old_v;
};
struct Ring {
  Tensor k, v;
  int64_t window, sinks;
};
WindowStep window_step(const Ring& ring, const Tensor& q, const Tensor& q_sinks, const Tensor& k, const Tensor& v, const Scores& scores,
                       const std::vector<int64_t>& positions, bool with_old);

// ---- join_attention.cpp: exact attention to near keys and a linear one to far keys under one normaliser
//   y = (e^lse o + e^mass u) / (e^lse + e^mass z)
//   o (B,T,H,V) and lse (B,T,H) of softmax attention; far (B,T,H,V+1) = [u; z], the features' sum over values and over
//   ones; mass (B,T,H), a log factor  ->  y (B,T,H,V)
Var join_attention(const Var& o, const Var& lse, const Var& far, const Var& mass);

// ---- softmax_features.cpp: each head h of x (..., H*f) becomes [softmax(x_h); softmax(-x_h)]  ->  (..., H*2f)
// (Hedgehog, arXiv 2402.04347): features are never negative
Var softmax_features(const Var& x, int64_t heads);

// ---- linear_attention.cpp: the central operation of SUPRA
struct LinearAttention {
  Var o;      // (B,T,H,V)
  Var state;  // (B,H,K,V), after the last step
};
// S_t = g_t S_{t-1} + scale k_t v_t^T;  o_t = q_t S_t,  f32 in chunks, forward and backward, never a loop over T.
//   q (B,T,H,K)  k (B,T,Gk,K)  v (B,T,Gv,V); head h uses k head h / (H/Gk) and v head h / (H/Gv)
//   log_decay = log g <= 0: (H) fixed per head, or (B,T,H) per head and token
//   state (B,H,K,V), S before the first step; undefined: zeros
//   lengths (B): row b ends after lengths[b] steps; later columns change nothing and give o = 0; empty: all T
//   cuts: the state is zero at each cut; `state` is used before the first cut
//   norm_eps > 0: o is normalised by groupnorm, one group per head
//   features: operations on q and k before the attention; kernels that can fuse them do (GPU, bf16, K and V of 64 or 128)
struct Features {
  Rope rope = {.layout = Rope::Layout::none};  // applied to q and k, from the positions `first`
  std::vector<int64_t> first = {};
  bool of_relu = false;  // relu_slope() is applied to q and k before it
};
LinearAttention linear_attention(const Var& q, const Var& k, const Var& v, const Var& log_decay, double scale,
                                 const Var& state = {}, const std::vector<int64_t>& lengths = {}, double norm_eps = 0,
                                 const Cuts& cuts = {}, const Features& features = {});
// One step (T = 1), in place: updates state, returns o. For inference: f32 (on the GPU also bf16), no gradient. If k and v
// have G heads, the state may be (B,G,K,V), shared by H/G query heads; then there is no decay: log_decay is (H) zeros.
Tensor linear_attention_step(const Tensor& state, const Tensor& q, const Tensor& k, const Tensor& v,
                             const Tensor& log_decay, double scale);

// ---- delta_attention.cpp: the gated delta rule (Yang et al., Gated Delta Networks, arXiv 2412.06464; the chunks: arXiv 2406.06484)
// S <- g_t S_{t-1};  u_t = beta_t (v_t - S^T k_t);  S_t = S + k_t u_t^T;  o_t = S_t^T q_t: a write first subtracts what the state
// holds for k_t; linear attention only adds.
//   q, k, v, state, lengths and cuts as linear_attention's; |k_t| = 1, or beta_t |k_t|^2 <= 2 at least: beyond that S grows
//   log_decay = log g <= 0 and beta in [0, 1]: (B,T,H), per head and token; f32 beside bf16
LinearAttention delta_attention(const Var& q, const Var& k, const Var& v, const Var& log_decay, const Var& beta, const Var& state = {},
                                const std::vector<int64_t>& lengths = {}, const Cuts& cuts = {});
// One step (T = 1), in place: updates state (B,H,K,V), returns o. For inference: f32 (on the GPU bf16, too), no gradient.
Tensor delta_attention_step(const Tensor& state, const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& log_decay,
                            const Tensor& beta);

// ---- short_convolution.cpp: y_t = sum_{i<W} w_i * x_{t-i}, each channel by itself
//   x, y (B,T,C)  w (W,C)  state (B,W-1,C): the inputs before the first step, oldest first; undefined: zeros. Lengths and cuts as above.
struct ShortConvolution {
  Var y, state;
};
ShortConvolution short_convolution(const Var& x, const Var& w, const Var& state = {}, const std::vector<int64_t>& lengths = {},
                                   const Cuts& cuts = {});

// ---- cross_entropy.cpp
constexpr int32_t kIgnore = -100;
// mean over the targets that are not kIgnore of  lse - x_target + z_loss * lse^2,  lse = log sum exp(x)
//   logits (N,O)  targets (N) i32  ->  (1), f32 on the GPU; targets are looked at on the CPU and may lie there
Var cross_entropy(const Var& logits, const Tensor& targets, double z_loss = 0);
// The number of logits that linear_cross_entropy holds at once (but at least 32 rows). 32 MB was the fastest of 8 to 64 MB.
constexpr int64_t kLogitsAtOnce = 1 << 23;
// Distillation (Hinton et al., arXiv 1503.02531): the loss of a row becomes
//   (1 - weight) (lse - x_target) + weight KL(p || softmax(x)) + z_loss lse^2,   p = softmax(t), t the teacher's logits.
// `teacher` writes the logits t (n,O) of rows [first, first + n), a block at a time, in h's dtype, on the GPU in f32. It is
// given the student's logits x of these rows, in the same dtype.
struct Distillation {
  std::function<void(int64_t first, const Tensor& student, const Tensor& logits)> teacher;
  double weight = 1;
};
// cross_entropy(linear(h, w), targets, z_loss) without storing all logits: h (N,C)  w (O,C)  ->  (1). The gradients of h and w
// are computed here, in the forward. Backward only scales them, so it can run once only. With a cap the logits are cap
// tanh(linear(h, w)).
Var linear_cross_entropy(const Var& h, const Var& w, const Tensor& targets, double z_loss = 0,
                         const Distillation& distillation = {{}, 0}, double cap = 0);
// log sum exp of each row of logits (N,O), f64 (N). No gradient.
Tensor log_sum_exp(const Tensor& logits);
// -log p(target) of each row, f32 (N); 0 where the target is kIgnore. No gradient.
Tensor token_nll(const Tensor& logits, const Tensor& targets);

// ---- adamw.cpp (Loshchilov and Hutter, arXiv 1711.05101)
struct AdamwStep {
  double lr, beta1, beta2, eps, weight_decay;
  int64_t step;       // 1 at the first update
  double grad_scale;  // gradients are multiplied by it: clipping and accumulation in one factor
};
// g *= grad_scale; m, v: moving means of g, g^2; w -= lr (m^ / (sqrt(v^) + eps) + weight_decay w)
void adamw_update(const Tensor& w, const Tensor& m, const Tensor& v, const Tensor& g, const AdamwStep& options);
// Sum of squares in double, in a fixed order; all tensors on one device.
double squared_norm(const std::vector<Tensor>& tensors);

}  // namespace supra
