#pragma once
#include <functional>
#include <string>
#include <vector>

#include "autograd/var.h"

// Tests a backward: compares its gradients with central differences, in double.

namespace supra {

// `fn` maps f64 inputs to one or more outputs of any shape; the check runs on the dot product of all outputs with fixed random
// weights, for every element of every input: |analytic - numeric| <= 1e-6 + 1e-5 * |numeric|. Returns "" when all agree, else a
// report of the worst element.
std::string gradcheck(const std::function<std::vector<Var>(const std::vector<Var>&)>& fn, const std::vector<Tensor>& inputs);

}  // namespace supra
