#pragma once
#include <string>
#include <vector>

#include "nn/module.h"

namespace supra {

struct AdamwOptions {
  double beta1 = 0.9, beta2 = 0.95, eps = 1e-8, weight_decay = 0;
};

// A parameter with its own options for the optimizer, and what the optimizer remembers of it.
struct Trained {
  std::string name;
  Var parameter;
  double lr_scale = 1;    // factor on its learning rate
  bool decays = true;     // weight decay applies to it
  Tensor m = {}, v = {};  // moving means of the gradient and of its square, allocated at the first step with a gradient
};

// AdamW over named parameters, f32.
class Optimizer {
 public:
  Optimizer(std::vector<Trained> parameters, const AdamwOptions& o) : parameters_(std::move(parameters)), options_(o) {}

  // The global norm of all gradients.
  double gradient_norm() const;
  // Clips the gradients to `clip` (0: no clipping; `norm` is their norm), updates the parameters and clears the gradients.
  void step(double lr, double clip, double norm);
  void clear_gradients();

  std::vector<Trained>& parameters() { return parameters_; }
  void set_steps(int64_t steps) { steps_ = steps; }
  std::vector<std::string> without_gradient() const;  // names of the parameters that have no gradient now
  // The first parameter whose gradient contains NaN or infinity, or "".
  std::string not_finite() const;

 private:
  std::vector<Trained> parameters_;
  AdamwOptions options_;
  int64_t steps_ = 0;
};

// The learning rate at each step, with a linear warmup from 0.
//   wsd: constant, then linear to min_lr over the last fifth (warmup-stable-decay, arXiv 2404.06395)
struct Schedule {
  enum class Kind { cosine, linear, wsd, constant };
  Kind kind = Kind::cosine;
  double lr = 1e-3, min_lr = 1e-4;
  int64_t warmup = 0, total = 1;

  double at(int64_t step) const;  // step counts from 0
};

}  // namespace supra
