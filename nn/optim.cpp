#include "nn/optim.h"

#include <algorithm>
#include <cmath>

namespace supra {

Optimizer::Optimizer(std::vector<Trained> parameters, const AdamwOptions& options) : options_(options) {
  for (Trained& trained : parameters) slots_.push_back({std::move(trained), {}, {}});
}

double Optimizer::gradient_norm() const {
  std::vector<Tensor> gradients;
  for (const Slot& slot : slots_) {
    if (const Tensor gradient = slot.trained.parameter.grad(); gradient.defined()) gradients.push_back(gradient);
  }
  return std::sqrt(squared_norm(gradients));
}

void Optimizer::step(double lr, double clip, double norm) {
  // the same small constant as torch.nn.utils.clip_grad_norm_
  const double grad_scale = clip > 0 ? std::min(1.0, clip / (norm + 1e-6)) : 1;
  steps_++;
  for (Slot& slot : slots_) {
    const Trained& p = slot.trained;
    const Tensor gradient = p.parameter.grad();
    if (!gradient.defined()) continue;
    if (!slot.m.defined()) {
      slot.m = zeros_like(gradient);
      slot.v = zeros_like(gradient);
    }
    adamw_update(p.parameter.value(), slot.m, slot.v, gradient,
                 {lr * p.lr_scale, options_.beta1, options_.beta2, options_.eps, p.decays ? options_.weight_decay : 0, steps_, grad_scale});
    p.parameter.clear_grad();
  }
}

void Optimizer::clear_gradients() {
  for (const Slot& slot : slots_) slot.trained.parameter.clear_grad();
}

std::vector<std::string> Optimizer::without_gradient() const {
  std::vector<std::string> names;
  for (const Slot& slot : slots_) {
    if (!slot.trained.parameter.grad().defined()) names.push_back(slot.trained.name);
  }
  return names;
}

std::string Optimizer::not_finite() const {
  for (const Slot& slot : slots_) {
    const Tensor gradient = slot.trained.parameter.grad();
    if (gradient.defined() && !std::isfinite(squared_norm(gradient))) return slot.trained.name;
  }
  return "";
}

double Schedule::at(int64_t step) const {
  if (step < warmup) return lr * static_cast<double>(step + 1) / static_cast<double>(warmup);
  const double span = static_cast<double>(std::max<int64_t>(1, total - warmup));
  const double progress = std::min(1.0, static_cast<double>(step - warmup) / span);
  switch (kind) {
    case Kind::cosine: return min_lr + (lr - min_lr) * 0.5 * (1 + std::cos(M_PI * progress));
    case Kind::linear: return lr + (min_lr - lr) * progress;
    case Kind::wsd: return lr + (min_lr - lr) * std::max(0.0, (progress - 0.8) / 0.2);
    case Kind::constant: return lr;
  }
  return lr;
}

}  // namespace supra
