#include "kernels/decode_heads.h"

#include <algorithm>

#include "kernels/simd.h"
#include "tensor/tensor.h"

namespace supra {

// scores (heads, n) of the keys [begin, end)
static void score(float* scores, const float* q, const DecodeKeys& keys, int64_t begin, int64_t end, int64_t heads, int64_t K) {
  const auto* first = static_cast<const char*>(keys.k) + begin * keys.k_step * static_cast<int64_t>(size_of(keys.dtype));
  simd().gemm_dots(heads, end - begin, K, q, K, first, keys.dtype, keys.k_step, false, scores + begin, keys.n);
}

// o (heads, V) = weights (heads, n) values
static void add_values(float* o, const float* weights, const DecodeKeys& keys, int64_t heads, int64_t V) {
  if (keys.dtype == Dtype::f32)
    simd().gemm_tile(false, false, heads, V, keys.n, weights, keys.n, static_cast<const float*>(keys.v), keys.v_step, false, o, V);
  else
    simd().f16_sum_of_rows(heads, V, keys.n, weights, keys.n, keys.v, keys.v_step, o, V);
}

void decode_heads(float* o, float* lse, const float* q, const float* q_sinks, const DecodeKeys& keys, int64_t heads, int64_t K,
                  int64_t V, float scale, float cap) {
  const Tensor memory = Tensor::empty({4 * keys.n});
  float* scores = memory.data<float>();
  const int64_t sinks = std::min(keys.sinks, keys.n);
  for (int64_t h = 0; h < heads; h += 4) {
    const int64_t some = std::min<int64_t>(4, heads - h);
    score(scores, q_sinks + h * K, keys, 0, sinks, some, K);
    score(scores, q + h * K, keys, sinks, keys.n, some, K);
    if (cap > 0) {
      simd().scale(scores, scores, scale, some * keys.n);
      simd().activation_fwd(scores, scores, some * keys.n, Activation::tanh);
    }
    for (int64_t i = 0; i < some; i++) simd().softmax_row(scores + i * keys.n, lse + h + i, keys.n, cap > 0 ? cap : scale);
    add_values(o + h * V, scores, keys, some, V);
  }
}

}  // namespace supra
