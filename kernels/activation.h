#pragma once

// Activation functions and their derivatives. elementwise.cpp contains the reference, activation_vec.h the fast code.
//
//   relu  max(x, 0)
//   silu  x / (1 + e^-x)                                               (Elfwing et al., arXiv 1702.03118)
//   gelu  x/2 (1 + erf(x / sqrt 2)), or
//         x/2 (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3)))              (Hendrycks and Gimpel, arXiv 1606.08415)
//   sigmoid  1 / (1 + e^-x)          log_sigmoid  its logarithm, exact at both ends
//   tanh                             hard_tanh  min(max(x, -1), 1)

namespace supra {

enum class Activation { relu, silu, gelu_erf, gelu_tanh, sigmoid, log_sigmoid, tanh, hard_tanh };

// f(x) and f'(x)
double activate(Activation f, double x);
double activation_slope(Activation f, double x);

}  // namespace supra
