#pragma once
#include <vector>

#include "kernels/ops.h"
#include "kernels/rope.h"

// What linear_attention.cpp and delta_attention.cpp have in common. The rules and their backward are in state_attention.cpp.

namespace supra {

// The arguments of a call, its outputs, and what is saved for backward.
struct StateCall {
  const char* op;
  Tensor q, k, v, log_decay;
  Tensor beta;                   // of the delta rule; undefined: linear attention
  Tensor state;                  // before the first step; undefined: zeros
  double scale;                  // of linear attention
  std::vector<int64_t> lengths;  // (B)
  Cuts cuts;
  int64_t B, T, H, Gk, Gv, K, V;
  double norm_eps = 0;  // of linear attention in f32; 0: the outputs are not normalised

  Tensor o, last;    // outputs; last: the state after the last step
  Tensor states;     // (B,H,T/chunk,K,V): those that enter the chunks of a document but its first. CPU
  Tensor errors;     // as o: the corrections of the delta rule's writes
  Tensor rstd;       // (B,T,H), if the outputs are normalised
  Tensor documents;  // GPU: see documents_on_gpu()
  // GPU: rope and relu_slope() are part of the kernels, see fuse_features()
  RopeAngles angles = {};
  bool of_relu = false;

  // Throws unless the shapes fit. Without lengths every row has T steps.
  StateCall(const char* op, const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& log_decay, const Tensor& beta,
            const Tensor& state, double scale, const std::vector<int64_t>& lengths = {}, const Cuts& cuts = {});

  bool decay_by_token() const { return log_decay.rank() == 3; }
};

// The gradients of the inputs. dlog_decay, and dstate on the GPU, are undefined if nobody needs them.
struct StateCallGrads {
  Tensor dq, dk, dv, dlog_decay = {}, dbeta = {};
  Tensor dstate = {};  // CPU: on entry the gradient of the last state
};

// Computes the outputs and records their backward. inputs: q, k, v, log_decay, state, and beta if there is one.
LinearAttention state_attention(StateCall call, VarList inputs);

// One step (T = 1), in place: updates `state` (B,H/sharing,K,V), which `sharing` query heads use together, and returns o.
Tensor state_attention_step(const StateCall& call, const Tensor& state, int64_t sharing);

}  // namespace supra
