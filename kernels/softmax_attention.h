#pragma once
#include <vector>

#include "kernels/cuts.h"

// A call of softmax_attention_with_sinks(), for its code on the CPU and on the GPU.

namespace supra {

// The arguments, and the outputs, which are saved for backward.
struct SoftmaxCall {
  Tensor q, q_sinks, k, v;  // q_sinks: q if it is used for the sinks, too
  Scores scores;
  std::vector<int64_t> first;  // (B)
  int64_t window, sinks;
  std::vector<std::vector<Segment>> documents;  // (B)
  int64_t B, T, H, S, G, K, V;
  Tensor o, lse;

  // Throws unless the arguments fit.
  SoftmaxCall(const Tensor& q, const Tensor& q_sinks, const Tensor& k, const Tensor& v, const Scores& scores,
              const std::vector<int64_t>& first, int64_t window, int64_t sinks, const Cuts& cuts);
};

struct SoftmaxCallGrads {
  Tensor d_o, dlse;   // dlse: undefined if lse is not used
  Tensor dq, dk, dv;  // the CPU adds to dk and dv
  Tensor dq_sinks;    // undefined if q is used for the sinks
};

}  // namespace supra
