#pragma once
#include <string>
#include <vector>

#include "nn/module.h"

namespace supra {

struct AdamwOptions {
  double beta1 = 0.9, beta2 = 0.95, eps = 1e-8, weight_decay = 0;
};

// A parameter and what of the optimizer's options is its own.
struct Trained {
  std::string name;
  Var parameter;
  double lr_scale = 1;    // factor on its learning rate
  bool decays = true;     // weight decay reaches it
};

// AdamW over named parameters, f32. Moments are made at the first step that gives a parameter a gradient.
class Optimizer {
 public:
  struct Slot {
    Trained trained;
    Tensor m, v;  // moving means of the gradient and of its square, the parameter's shape
  };

  Optimizer(std::vector<Trained> parameters, const AdamwOptions& options);

  // The global norm of the gradients there are.
  double gradient_norm() const;
  // Clips the gradients, whose norm is given, to `clip` (0: no clipping), updates and clears them.
  void step(double lr, double clip, double norm);
  void clear_gradients();

  std::vector<Slot>& slots() { return slots_; }
  void set_steps(int64_t steps) { steps_ = steps; }
  std::vector<std::string> without_gradient() const;  // names of the parameters that have none now
  // The first parameter whose gradient holds NaN or infinity, or "".
  std::string not_finite() const;

 private:
  AdamwOptions options_;
  std::vector<Slot> slots_;
  int64_t steps_ = 0;
};

// Learning rates by step, all with a linear warmup from 0.
//   wsd: constant, then linear to min_lr over the last fifth (warmup-stable-decay, arXiv 2404.06395)
struct Schedule {
  enum class Kind { cosine, linear, wsd, constant };
  Kind kind = Kind::cosine;
  double lr = 1e-3, min_lr = 1e-4;
  int64_t warmup = 0, total = 1;

  double at(int64_t step) const;  // step counts from 0
};

}  // namespace supra
