#pragma once
#include <string>
#include <vector>

#include "nn/module.h"

namespace supra {

struct AdamwOptions {
  double beta1 = 0.9, beta2 = 0.95, eps = 1e-8, weight_decay = 0;
};

// AdamW over named parameters, f32. Moments are made at the first step that gives a parameter a gradient.
class Adamw {
 public:
  struct Slot {
    std::string name;
    Var parameter;
    Tensor m, v;  // moving means of the gradient and of its square, the parameter's shape
  };

  Adamw(std::vector<std::pair<std::string, Var>> parameters, const AdamwOptions& options);

  // Multiplies all gradients by grad_scale (1 / micro-batches), clips their global norm to `clip` (0: no clipping),
  // updates, clears the gradients and returns the norm before clipping. A norm that is no number changes nothing.
  double step(double lr, double clip, double grad_scale = 1);

  std::vector<Slot>& slots() { return slots_; }
  void set_steps(int64_t steps) { steps_ = steps; }
  std::vector<std::string> without_gradient() const;  // names of the parameters that have none now

 private:
  AdamwOptions options_;
  std::vector<Slot> slots_;
  int64_t steps_ = 0;
};

// Learning rates by step, all with a linear warmup from 0.
struct Schedule {
  enum class Kind { cosine, linear, constant };
  Kind kind = Kind::cosine;
  double lr = 1e-3, min_lr = 1e-4;
  int64_t warmup = 0, total = 1;

  double at(int64_t step) const;  // step counts from 0
};

}  // namespace supra
