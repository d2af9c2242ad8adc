#pragma once
#include <compare>
#include <cstdint>

#include "kernels/activation.h"
#include "tensor/cuda.h"
#include "tensor/dtype.h"

// The GPU kernels. Arguments are pointers to GPU memory and sizes, outputs first. The work is added to the
// current stream (tensor/cuda.h). The formulas are in the .cpp file of the same stem, which calls these for
// tensors on a GPU. Sums are f32 in a fixed order: the same input gives the same bits. A launch that fails
// throws Error.

namespace supra {
struct AdamwFactors;
struct SamplerOptions;

// Where rope finds the angles of x (N,H,K): those of row n and head h are in row n % period of the table, whose rows are
// `width` wide, from column h * head_step on. The table has one angle for each pair (half) or for each element (interleaved).
struct RopeTurn {
  int64_t N, H, K, dims;
  bool interleaved;
  int64_t period, width, head_step;
  int direction;  // 1: forward, -1: backward
};
}  // namespace supra

namespace supra::cuda {

// Each exists for T = float and T = Bf16.

// ---- rmsnorm.cu.  x, y, dx, dy (N,C)  w, dw (C)  rstd (N).   y, rstd, dx: =   dw: +=, or null
template <class T>
SUPRA_CU void rmsnorm_fwd(T* y, float* rstd, const T* x, const float* w, int64_t N, int64_t C, double eps);
template <class T>
SUPRA_CU void rmsnorm_bwd(T* dx, float* dw, const T* dy, const T* x, const float* w, const float* rstd,
                          int64_t N, int64_t C);

// ---- layernorm.cu.  As rmsnorm; mean, rstd (N)  w, b, dw, db (C), each of which may be null
template <class T>
SUPRA_CU void layernorm_fwd(T* y, float* mean, float* rstd, const T* x, const float* w, const float* b, int64_t N,
                            int64_t C, double eps);
template <class T>
SUPRA_CU void layernorm_bwd(T* dx, float* dw, float* db, const T* dy, const T* x, const float* w,
                            const float* mean, const float* rstd, int64_t N, int64_t C);

// ---- groupnorm.cu.  N groups of D elements: y, x, dx, dy (N,D)  rstd (N)
template <class T>
SUPRA_CU void groupnorm_fwd(T* y, float* rstd, const T* x, int64_t N, int64_t D, double eps);
template <class T>
SUPRA_CU void groupnorm_bwd(T* dx, const T* dy, const T* y, const float* rstd, int64_t N, int64_t D);

// ---- elementwise.cu.  n elements: y = a + b; y = a b; y = factor x; y = f(x); dx = dy f'(x)
template <class T>
SUPRA_CU void add(T* y, const T* a, const T* b, int64_t n);
template <class T>
SUPRA_CU void mul(T* y, const T* a, const T* b, int64_t n);
template <class T>
SUPRA_CU void scale(T* y, const T* x, double factor, int64_t n);
template <class T>
SUPRA_CU void activation_fwd(T* y, const T* x, int64_t n, Activation f);
template <class T>
SUPRA_CU void activation_bwd(T* dx, const T* dy, const T* x, int64_t n, Activation f);

// ---- swiglu.cu.  y, dy (N,F)  gate_up, dgate_up (N,2F): y = silu(gate) up
template <class T>
SUPRA_CU void swiglu_fwd(T* y, const T* gate_up, int64_t N, int64_t F);
template <class T>
SUPRA_CU void swiglu_bwd(T* dgate_up, const T* dy, const T* gate_up, int64_t N, int64_t F);

// ---- ratio.cu.  x, dx (N,V+1)  y, dy (N,V)
template <class T>
SUPRA_CU void divide_by_last_fwd(T* y, const T* x, int64_t N, int64_t V, double eps);
template <class T>
SUPRA_CU void divide_by_last_bwd(T* dx, const T* dy, const T* x, int64_t N, int64_t V, double eps);

// ---- relative_error.cu.  y, t, dy (N,C)  error, target, factor (N)
// error = sum |y - t|^2, target = sum |t|^2 of each row;  dy = factor (y - t), 0 where the factor is
template <class T>
SUPRA_CU void row_squares(float* error, float* target, const T* y, const T* t, int64_t N, int64_t C);
template <class T>
SUPRA_CU void relative_error_bwd(T* dy, const T* y, const T* t, const float* factor, int64_t N, int64_t C);

// ---- layout.cu.  to (N,C) = from (N,C), whose rows are a stride apart each; from null: zeros
template <class T>
SUPRA_CU void copy_columns(T* to, int64_t to_stride, const T* from, int64_t from_stride, int64_t N, int64_t C);
// dx (N,K) = the sum of the `times` rows in a row of dy (N,times,K)
template <class T>
SUPRA_CU void sum_heads(T* dx, const T* dy, int64_t N, int64_t times, int64_t K);

// ---- rope.cu.  x, y (N,H,K)
template <class T>
SUPRA_CU void rope(T* y, const T* x, const float* cosine, const float* sine, const RopeTurn& turn);

// ---- embedding.cu.  y (N,C) = rows `ids` (N) of a table (O,C) of f32, bf16, f16 or quantised; NaN for an id
// outside [0, O)
template <class T>
SUPRA_CU void embedding_fwd(T* y, const int32_t* ids, const void* table, Dtype dtype, int64_t N, int64_t O,
                            int64_t C);
// Piece p is the sum of rows order[begin[p]], ..., order[begin[p + 1] - 1] of the source (order null: of rows begin[p], ...).
// It is added to row target[p] of dw (O,C) or, if that is negative, becomes row -1 - target[p] of partial.
struct RowSums {
  int64_t pieces;
  const int32_t *order, *begin, *target;
};
template <class T>
SUPRA_CU void sum_rows(float* dw, float* partial, const T* source, const RowSums& sums, int64_t C);

// ---- adamw.cu.  n elements, w, m, v in place
SUPRA_CU void adamw(float* w, float* m, float* v, const float* g, int64_t n, const AdamwFactors& factors);
// sums[i] = the sum of squares of elements [i, i + 1) kSquaresBlock of x, in double
[[maybe_unused]] constexpr int64_t kSquaresBlock = 1 << 14;
template <class T>
SUPRA_CU void sum_squares(double* sums, const T* x, int64_t n);

// ---- gemm.cu.  C (M,N) = op(A) (M,K) op(B) (K,N), or +=; row-major, as in gemm.h. The matrices of `batch` such products lie
// *_step elements apart. The first product of a stream allocates 32 MB for all products of the stream; a graph with products
// has 32 MB of its own.
struct Product {
  bool ta = false, tb = false;
  int64_t M, N, K, lda, ldb, ldc;
  int64_t batch = 1, a_step = 0, b_step = 0, c_step = 0;
  auto operator<=>(const Product&) const = default;
};
// Work that is part of one product, but not of a batch: C = max(0, C + bias (N)); sums (M) = the sums of op(A)'s rows.
template <class Out>
struct Epilogue {
  const Out* bias = nullptr;
  bool relu = false;
  float* sums = nullptr;  // only if Out is float, and without the others
};
// T, Out: both float, both Bf16, or Bf16 and float. Sums are f32, and float is float throughout, without TF32.
template <class T, class Out>
SUPRA_CU void gemm(const Product& p, const T* a, const T* b, bool accumulate, Out* c,
                   const Epilogue<Out>& after = {});
// If on, a product that comes for the first time times several algorithms and uses the fastest. Off at first, unless
// SUPRA_GEMM=timed: two runs may choose differently, and then they differ in their last bits.
SUPRA_CU void time_products(bool on);

// ---- rows.cu.  sums (C) += the sum over the rows of x (N,C);   y (N,C) = row (C), N times
template <class T>
SUPRA_CU void add_rows(float* sums, const T* x, int64_t N, int64_t C);
template <class T>
SUPRA_CU void repeat_row(T* y, const float* row, int64_t N, int64_t C);

// ---- cross_entropy.cu
struct CrossEntropy {
  int64_t N, O;
  float z_loss, weight, teacher_weight;
};
// losses (N): =   dx (N,O): = weight * dy[0] times the gradient; may be x. Either may be null. x, teacher (N,O)
// targets (N): the loss and gradient of a negative one are 0. teacher: null if teacher_weight is 0. dy: null means 1.
// T, D: both float, both Bf16, or float and Bf16.
template <class T, class D>
SUPRA_CU void cross_entropy(float* losses, D* dx, const T* x, const float* teacher, const int32_t* targets,
                            const float* dy, const CrossEntropy& n);
// sum[0] = factor * the sum of x (N)
SUPRA_CU void scaled_sum(float* sum, const float* x, int64_t N, double factor);
// x (n) *= factor[0]
template <class T>
SUPRA_CU void scale_by(T* x, const float* factor, int64_t n);

// ---- linear_attention.cu, linear_attention_mma.cu, linear_attention_bwd.cu
// Arguments as in ops.h: q (B,T,H,K)  k (B,T,Gk,K)  v (B,T,Gv,V)  log_decay (H) or (B,T,H)  state (B,H,K,V)
// Two tokens of q lie q_step elements apart, so q, k and v may be columns of one wider matrix.
struct LinearAttentionSizes {
  int64_t B, T, H, Gk, Gv, K, V;
  int64_t q_step, k_step, v_step;
  bool decay_by_token;
  float scale;
};
// Steps [begin, end) of a row are one document. Results of the steps [end, stop) are zero. The first document of a row begins
// at 0, the last one has stop = T, and each row has at least one.
struct LinearAttentionDocument {
  int32_t row, begin, end, stop;
};
template <class T>
struct LinearAttentionInputs {
  const T *q, *k, *v;
  const float* log_decay;
  const float* state;                        // null: zeros
  const LinearAttentionDocument* documents;  // null: every row is one document
  int64_t document_count;                    // B if documents is null
  LinearAttentionSizes n;
  // If not null, RoPE rotates q and k as they are read, and their gradients back as they are written. With of_relu, gradients
  // are 0 where q or k is 0. Both only if linear_attention_fuses().
  const float *cosine = nullptr, *sine = nullptr;
  RopeTurn turn = {};
  bool of_relu = false;
};
template <class T>
struct LinearAttentionGrads {
  T *dq, *dk, *dv;    // (B,T,H,K)  (B,T,Gk,K)  (B,T,Gv,V)
  float* dstate;      // (B,H,K,V), or null
  float* dlog_decay;  // (H) or (B,T,H), or null
};

// True if the kernel on tensor cores can take these inputs: it can apply RoPE to q and k, and relu to their gradients.
SUPRA_CU bool linear_attention_fuses(const LinearAttentionInputs<Bf16>& in);
// o (B,T,H,V): =; if rstd (B,T,H) is not null, normalised head by head.   last_state (B,H,K,V): =, different from in.state
// K <= 512. Bf16 with K and V of 64 or 128 runs on tensor cores: q, k, v, S enter the products as bf16; sums and S are f32.
template <class T>
SUPRA_CU void linear_attention_fwd(T* o, float* rstd, float* last_state, const LinearAttentionInputs<T>& in,
                                   double norm_eps);
// All of grads: =. d_o (B,T,H,V) is the gradient of o as fwd wrote it, d_last that of last_state, or null. o, rstd, last_state:
// as fwd wrote them; rstd is null if o was not normalised, and last_state is needed only for dlog_decay. K, V <= 512.
template <class T>
SUPRA_CU void linear_attention_bwd(const LinearAttentionGrads<T>& grads, const T* d_o, const float* d_last,
                                   const T* o, const float* rstd, const float* last_state,
                                   const LinearAttentionInputs<T>& in);
// One step, T = 1: the state (B,H/sharing,K,V) in place; in.state and in.documents are not read. A state that query heads share
// takes the key and value of the first of them.
template <class T>
SUPRA_CU void linear_attention_step(T* o, float* state, const LinearAttentionInputs<T>& in, int64_t sharing);

// ---- delta_attention.cu; the step: linear_attention.cu
// The gated delta rule: `in` as above, with a decay for each token, scale 1, and neither RoPE nor relu. beta (B,T,H)
// o, errors (B,T,H,V), last_state: =   errors are saved for backward.   K <= 512
template <class T>
SUPRA_CU void delta_attention_fwd(T* o, T* errors, float* last_state, const LinearAttentionInputs<T>& in, const float* beta);
// All of grads and dbeta (B,T,H): =. errors, last_state as fwd wrote them.   K, V <= 512
template <class T>
SUPRA_CU void delta_attention_bwd(const LinearAttentionGrads<T>& grads, float* dbeta, const T* d_o, const float* d_last,
                                  const T* errors, const float* last_state, const LinearAttentionInputs<T>& in,
                                  const float* beta);
// One step, T = 1: the state (B,H,K,V) in place; in.state and in.documents are not read.
template <class T>
SUPRA_CU void delta_attention_step(T* o, float* state, const LinearAttentionInputs<T>& in, const float* beta);

// ---- short_convolution.cu.  x, dx, y, dy (B,T,C)  w, dw (W,C)  state, dstate, next, dnext (B,W-1,C).   dw: +=, all else: =
struct ShortConvolutionSizes {
  int64_t B, T, C, W;
  const int32_t* begin;  // (B,T): where the document of each step begins; T behind a row's end
  const int32_t* last;   // (B,2): begin and end of each row's last document.   Both null: each row is one document of T steps
};
// state: null if there is none
template <class T>
SUPRA_CU void short_convolution_fwd(T* y, float* next, const T* x, const float* w, const float* state,
                                    const ShortConvolutionSizes& n);
// dw, dnext: may be null
template <class T>
SUPRA_CU void short_convolution_bwd(T* dx, float* dw, float* dstate, const T* dy, const float* dnext, const T* x, const float* w,
                                    const float* state, const ShortConvolutionSizes& n);

// ---- gemv.cu.  y (N,O) = x (N,C) w(O,C)^T + bias (O) or null.   w as stored: f32, f16, bf16 or quantised
constexpr int64_t kGemvRows = 8;  // the largest N
template <class T>
SUPRA_CU void gemv(T* y, const T* x, const void* w, Dtype dtype, const float* bias, int64_t N, int64_t O,
                   int64_t C);

// ---- sampling.cu.  chosen (N): an id for each row of logits (N,O), whose rows are `stride` apart; -1 - i if logit i is NaN.
// scratch (N,O)  draws (N): random numbers below 2^32. recent[begins[n]], ..., recent[begins[n + 1] - 1]: the ids of row n to
// be penalised, each once.   O <= 2^23
template <class T>
SUPRA_CU void sample(int32_t* chosen, float* scratch, const T* logits, const uint32_t* draws, const int32_t* begins,
                     const int32_t* recent, int64_t N, int64_t O, int64_t stride, const SamplerOptions& options);

// ---- softmax_attention.cu, softmax_attention_mma.cu
// q (B,T,H,K)  k (B,S,G,K)  v (B,S,G,V)  o (B,T,H,V)  lse (B,T,H): formulas and backward in
// softmax_attention.cpp
struct SoftmaxAttentionSizes {
  int64_t B, T, H, S, G, K, V;
  int64_t window;  // S if there is none
  int64_t sinks;   // how many of the first keys of its document a query sees besides the window
  float scale;
  float cap;       // 0, or a score is cap tanh(scale q k)
};
template <class T>
struct SoftmaxAttentionInputs {
  const T *q, *k, *v;
  const T* q_sinks;          // the queries for the sinks; q if they are the same
  const int32_t* first;      // (B)
  const int32_t* documents;  // (B,T): where the document of each query begins among the keys; null: at 0
  SoftmaxAttentionSizes n;
};

// Bf16 with K = V of 64 or 128 and no cap runs on tensor cores: probabilities and their gradients enter the products as bf16,
// sums are f32. Otherwise shared memory limits the width: backward takes K + V up to about 250 (cards with 99 KB), 400 (A100)
// or 550 (H100), forward half as much again.
// o, lse, dq, dk, dv, dq_sinks: =   dq_sinks: null if q is also the query for the sinks.   dlse: may be null
template <class T>
SUPRA_CU void softmax_attention_fwd(T* o, float* lse, const SoftmaxAttentionInputs<T>& in);
template <class T>
SUPRA_CU void softmax_attention_bwd(T* dq, T* dq_sinks, T* dk, T* dv, const T* d_o, const float* dlse, const T* o,
                                    const float* lse, const SoftmaxAttentionInputs<T>& in);

// ---- window_step.cu.  See kernels/ops.h; positions (B) on the GPU, so that a recorded step follows them
struct WindowStepSizes {
  int64_t B, H, G, K, V, window, sinks;
  float scale, cap;  // a score is scale q k, or cap tanh(scale q k)
};
template <class T>
SUPRA_CU void window_step(T* o, float* lse, T* old_k, T* old_v, T* ring_k, T* ring_v, const T* q, const T* q_sinks, const T* k,
                          const T* v, const int32_t* positions, const WindowStepSizes& n);

// ---- join_attention.cu.  N rows of V: o, y, d_o, dy (N,V)  far, dfar (N,V+1)  lse, dlse (N)  mass, dmass (N).   all: =
template <class T>
SUPRA_CU void join_attention_fwd(T* y, const T* o, const float* lse, const T* far, const T* mass, int64_t N, int64_t V);
template <class T>
SUPRA_CU void join_attention_bwd(T* d_o, float* dlse, T* dfar, T* dmass, const T* dy, const T* y, const T* o, const float* lse,
                                 const T* far, const T* mass, int64_t N, int64_t V);

// ---- softmax_features.cu.  N heads of f: x, dx (N,f)  y, dy (N,2f).   y, dx: =
template <class T>
SUPRA_CU void softmax_features_fwd(T* y, const T* x, int64_t N, int64_t f);
template <class T>
SUPRA_CU void softmax_features_bwd(T* dx, const T* dy, const T* y, int64_t N, int64_t f);

// ---- take_rows.cu.  y (M,D): row m = row index[m] - base of x (N,D), if that is in [0, N); other rows of y stay unchanged.
template <class T>
SUPRA_CU void take_rows(T* y, const T* x, const int32_t* index, int64_t base, int64_t M, int64_t N, int64_t D);

}  // namespace supra::cuda
