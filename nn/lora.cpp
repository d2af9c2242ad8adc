#include <cmath>

#include "nn/decoder.h"

// Low-rank adaptation (LoRA, arXiv 2106.09685): W gets the factors A (r, in) and B (out, r), and the layer computes
//   y = x W^T + b + alpha / r (x A^T) B^T
// At first A is uniform in +-1/sqrt(in) and B is zero, so nothing changes.

namespace supra {

void Decoder::declare_lora() {
  const LoraConfig& lora = config_.lora;
  int64_t found = 0;
  visit([&](const std::string& path, Linear& linear) {
    // parameters that linearization added are trained as a whole, and an output matrix may be the embedding
    const bool given = path.starts_with("layers.") && path.find("_totrain_") == path.npos;
    if (!given || !name_matches(path + ".weight", lora.on)) return;
    linear.lora_a = make_parameter({lora.rank, linear.weight.dim(1)});
    linear.lora_b = make_parameter({linear.weight.dim(0), lora.rank});
    linear.lora_scale = lora.alpha / static_cast<double>(lora.rank);
    found++;
  });
  CHECK(found > 0, "lora: no matrix of the layers has a name like %s (supra inspect --tensors shows the names)",
        lora.on.empty() ? "none" : lora.on[0].c_str());
}

void Decoder::add_lora(const LoraConfig& lora, uint64_t seed) {
  CHECK(config_.lora.rank == 0, "lora: the model already has factors of rank %ld (merge them first)",
        static_cast<long>(config_.lora.rank));
  config_.lora = lora;
  check_config(config_, "lora");
  declare_lora();
  Philox random(seed, 3);
  visit([&](const std::string&, Linear& linear) {
    if (!linear.lora_a.defined()) return;
    const Device device = linear.weight.value().device();
    const Tensor a = Tensor::empty(linear.lora_a.shape());
    fill_uniform(a, 1 / std::sqrt(static_cast<double>(a.dim(1))), random);
    linear.lora_a = Var(a.to(device), true);
    linear.lora_b = Var(Tensor::zeros(linear.lora_b.shape(), Dtype::f32, device), true);
  });
}

bool Decoder::merge_lora() {
  if (config_.lora.rank == 0) return false;
  const NoGrad off;
  visit([](const std::string&, Linear& linear) {
    if (!linear.lora_a.defined()) return;
    const Var product = scale(matmul(linear.lora_b, linear.lora_a), linear.lora_scale);
    linear.weight = Var(add(Var(linear.weight.value().to(Dtype::f32)), product).value(), true);
    linear.lora_a = linear.lora_b = {};
  });
  config_.lora = {};
  return true;
}

}  // namespace supra
