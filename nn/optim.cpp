#include "nn/optim.h"

#include <algorithm>
#include <cmath>

namespace supra {

Adamw::Adamw(std::vector<std::pair<std::string, Var>> parameters, const AdamwOptions& options) : options_(options) {
  for (auto& [name, parameter] : parameters) slots_.push_back({name, parameter, {}, {}});
}

double Adamw::step(double lr, double clip, double grad_scale) {
  double squares = 0;
  for (const Slot& slot : slots_) {
    if (slot.parameter.grad().defined()) squares += squared_norm(slot.parameter.grad());
  }
  const double norm = std::sqrt(squares) * grad_scale;
  if (!std::isfinite(norm)) return norm;
  // the same small constant as torch.nn.utils.clip_grad_norm_
  if (clip > 0) grad_scale *= std::min(1.0, clip / (norm + 1e-6));
  steps_++;
  for (Slot& slot : slots_) {
    const Tensor gradient = slot.parameter.grad();
    if (!gradient.defined()) continue;
    if (!slot.m.defined()) {
      slot.m = zeros_like(gradient);
      slot.v = zeros_like(gradient);
    }
    adamw_update(slot.parameter.value(), slot.m, slot.v, gradient,
                 {lr, options_.beta1, options_.beta2, options_.eps, options_.weight_decay, steps_, grad_scale});
    slot.parameter.clear_grad();
  }
  return norm;
}

std::vector<std::string> Adamw::without_gradient() const {
  std::vector<std::string> names;
  for (const Slot& slot : slots_) {
    if (!slot.parameter.grad().defined()) names.push_back(slot.name);
  }
  return names;
}

double Schedule::at(int64_t step) const {
  if (step < warmup) return lr * static_cast<double>(step + 1) / static_cast<double>(warmup);
  const double span = static_cast<double>(std::max<int64_t>(1, total - warmup));
  const double progress = std::min(1.0, static_cast<double>(step - warmup) / span);
  switch (kind) {
    case Kind::cosine: return min_lr + (lr - min_lr) * 0.5 * (1 + std::cos(M_PI * progress));
    case Kind::linear: return lr + (min_lr - lr) * progress;
    case Kind::constant: return lr;
  }
  return lr;
}

}  // namespace supra
