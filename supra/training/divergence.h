#pragma once
#include "nn/decoder.h"

namespace supra {

// KL(teacher || student) per token, from the hidden states (B,T,C) of both, at positions from `from` on.
double divergence(const Decoder& student, const Tensor& own, const Decoder& teacher, const Tensor& taught, int64_t from = 0);

// Hidden states of the teacher if this one layer is replaced by that of `model`; x: the residual stream before that layer.
Tensor swapped_hidden(const Decoder& model, const Decoder& teacher, int64_t layer, const Var& x, const Steps& steps);

}  // namespace supra
