#pragma once
#include <cmath>
#include <functional>
#include <string>
#include <vector>

#include "autograd/var.h"
#include "tensor/random.h"

// Tests a backward: compares its gradients with central differences, in double.

namespace supra {

// Fixed weights for each output: every element counts, and none cancels another by symmetry.
inline std::vector<Tensor> weights_for(const std::vector<Var>& outputs) {
  Philox random(7, 1);
  std::vector<Tensor> weights;
  for (const Var& y : outputs) {
    Tensor w = Tensor::empty(y.shape(), Dtype::f64);
    for (int64_t i = 0; i < w.numel(); i++) w.data<double>()[i] = 0.5 + random.uniform();
    weights.push_back(w);
  }
  return weights;
}

inline double weighted_sum(const std::vector<Var>& outputs, const std::vector<Tensor>& weights) {
  double sum = 0;
  for (size_t k = 0; k < outputs.size(); k++) {
    const double *y = outputs[k].value().data<double>(), *w = weights[k].data<double>();
    for (int64_t i = 0; i < weights[k].numel(); i++) sum += w[i] * y[i];
  }
  return sum;
}

// `fn` maps f64 inputs to one or more outputs of any shape; the check runs on the dot product of all outputs with fixed random
// weights, for every element of every input: |analytic - numeric| <= 1e-6 + 1e-5 * |numeric|. Returns "" when all agree, else a
// report of the worst element.
inline std::string gradcheck(const std::function<std::vector<Var>(const std::vector<Var>&)>& fn,
                             const std::vector<Tensor>& inputs) {
  constexpr double kStep = 1e-6, kAbsolute = 1e-6, kRelative = 1e-5;
  std::vector<Var> vars;
  for (const Tensor& input : inputs) vars.emplace_back(input.clone(), true);
  const std::vector<Var> outputs = fn(vars);
  const std::vector<Tensor> weights = weights_for(outputs);
  backward(outputs, weights);

  std::string report;
  double worst = 1;
  for (size_t k = 0; k < vars.size(); k++) {
    const Tensor analytic = vars[k].grad();
    if (!analytic.defined()) return format("input %zu got no gradient", k);
    double* x = vars[k].value().data<double>();
    for (int64_t i = 0; i < analytic.numel(); i++) {
      NoGrad off;
      const double before = x[i];
      x[i] = before + kStep;
      const double above = weighted_sum(fn(vars), weights);
      x[i] = before - kStep;
      const double below = weighted_sum(fn(vars), weights);
      x[i] = before;
      const double numeric = (above - below) / (2 * kStep), given = analytic.data<double>()[i];
      const double excess = std::fabs(given - numeric) / (kAbsolute + kRelative * std::fabs(numeric));
      if (!(excess <= worst)) {
        worst = std::isnan(excess) ? INFINITY : excess;
        report = format("input %zu %s, element %ld: backward says %.9g, central difference %.9g", k,
                        to_string(vars[k].shape()).c_str(), static_cast<long>(i), given, numeric);
      }
    }
  }
  return report;
}

}  // namespace supra
