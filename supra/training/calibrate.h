#pragma once
#include <optional>
#include <vector>

#include "nn/decoder.h"
#include "supra/training/loader.h"

namespace supra {

// Fits the output projections of an untrained student in closed form, one layer at a time on the teacher's inputs. z (N,H*V) is
// the input of the student's out_proj, T (N,C) the teacher's output without the bias:
//   ridge: W = argmin |z W^T - T|^2 + lambda |W|^2,  lambda = 1e-3 of the mean of z^T z's diagonal
//   heads: the columns of W of each head are multiplied by one number, found by least squares (both are least-squares
//          forms of Taylor-Calibrate, arXiv 2606.16429)
//   correction: W += argmin |z D^T - (T - z W^T)|^2 + lambda |D|^2, for a student that is already close; z is computed from
//          the student's inputs, so that errors do not add up
// `only`: fits that layer alone. Needs memory for (H*V)^2 doubles and the residual stream of all tokens.
enum class Calibration { heads, ridge, correction };
void calibrate(Decoder& student, const Decoder& teacher, const std::vector<Batch>& batches,
               Calibration kind = Calibration::ridge, std::optional<int64_t> only = {});

// Enough tokens: 64 per input of out_proj (H*V), from 8,192 to a stream of 512 MB. With 14, SmolLM2-135M is 0.4 nats worse.
int64_t default_calibration_tokens(const Config& config);

// For sequences that start here.
Steps steps_of(const Batch& batch);

}  // namespace supra
