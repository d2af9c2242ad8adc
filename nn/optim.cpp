#include "nn/optim.h"

#include <algorithm>
#include <cmath>

namespace supra {

double Optimizer::gradient_norm() const {
  std::vector<Tensor> gradients;
  for (const Trained& p : parameters_) {
    if (const Tensor gradient = p.parameter.grad(); gradient.defined()) gradients.push_back(gradient);
  }
  return std::sqrt(squared_norm(gradients));
}

void Optimizer::step(double lr, double clip, double norm) {
  // the same small constant as torch.nn.utils.clip_grad_norm_
  const double grad_scale = clip > 0 ? std::min(1.0, clip / (norm + 1e-6)) : 1;
  steps_++;
  for (Trained& p : parameters_) {
    const Tensor gradient = p.parameter.grad();
    if (!gradient.defined()) continue;
    if (!p.m.defined()) {
      p.m = zeros_like(gradient);
      p.v = zeros_like(gradient);
    }
    adamw_update(p.parameter.value(), p.m, p.v, gradient,
                 {lr * p.lr_scale, options_.beta1, options_.beta2, options_.eps, p.decays ? options_.weight_decay : 0, steps_, grad_scale});
    p.parameter.clear_grad();
  }
}

void Optimizer::clear_gradients() {
  for (const Trained& p : parameters_) p.parameter.clear_grad();
}

std::vector<std::string> Optimizer::without_gradient() const {
  std::vector<std::string> names;
  for (const Trained& p : parameters_) {
    if (!p.parameter.grad().defined()) names.push_back(p.name);
  }
  return names;
}

std::string Optimizer::not_finite() const {
  for (const Trained& p : parameters_) {
    const Tensor gradient = p.parameter.grad();
    if (gradient.defined() && !std::isfinite(squared_norm({gradient}))) return p.name;
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
