#pragma once
#include <optional>
#include <vector>

#include "nn/decoder.h"
#include "supra/training/loader.h"

namespace supra {

// Gives a fresh student output projections that fit what its mixers compute now, in closed form: no gradient, no step.
// Layer by layer, on the teacher's inputs, with z (N,H*V) what the student's out_proj is applied to and T (N,C) the
// teacher's output less the bias:
//   ridge: W = argmin |z W^T - T|^2 + lambda |W|^2,  lambda = 1e-3 of the mean of z^T z's diagonal
//   heads: every head's columns of W are multiplied by one number, the least squares' (reference of both: a least-squares
//          form of Taylor-Calibrate's, arXiv 2606.16429)
//   correction: W += argmin |z D^T - (T - z W^T)|^2 + lambda |D|^2, for a student that is close already: z of its own inputs,
//          from layers that were corrected before, so that errors do not add up
// With `only`, of that layer alone. No tensor is added. Needs (H*V)^2 doubles, and the stream of all tokens.
enum class Calibration { heads, ridge, correction };
void calibrate(Decoder& student, const Decoder& teacher, const std::vector<Batch>& batches,
               Calibration kind = Calibration::ridge, std::optional<int64_t> only = {});

// Tokens that do: 64 for each of the H*V numbers that make an output, at least 8,192, and no more than a stream of 512 MB has. With 14 for each, SmolLM2-135M is 0.4 nats worse.
int64_t default_calibration_tokens(const Config& config);

// Of sequences that start here.
Steps steps_of(const Batch& batch);

}  // namespace supra
