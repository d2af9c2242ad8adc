#pragma once
#include <cstdint>
#include <span>
#include <vector>

#include "kernels/sampling.h"
#include "tensor/random.h"
#include "tensor/tensor.h"

namespace supra {

// Chooses the next token from logits, by the rules of kernels/sampling.h. The same seed gives the same text on every
// machine that gives the same logits.
class Sampler {
 public:
  // Throws Error when an option is outside of its range.
  explicit Sampler(const SamplerOptions& options);

  // logits (O); `recent`: what was read and written so far. Ties go to the smaller id. Throws Error on NaN.
  int32_t choose(std::span<const float> logits, std::span<const int32_t> recent = {});
  // The same for a tensor (1,O), in f32 or on a GPU in f32 or bf16; the GPU chooses itself.
  int32_t choose(const Tensor& logits, std::span<const int32_t> recent = {});

  // A token for each row of logits (B,O), among the first `ids` ids, by the row's own sampler. The options of all samplers
  // are the same except for the seed.
  static std::vector<int32_t> choose_rows(std::span<Sampler> samplers, const Tensor& logits, int64_t ids);

 private:
  // The tokens to be penalised, each once.
  std::vector<int32_t> penalised(std::span<const int32_t> recent) const;
  // cuda_sampler.cpp. If a row has a NaN at id: -1 - id.
  static std::vector<int32_t> choose_on_gpu(std::span<Sampler> samplers, const Tensor& logits, int64_t ids,
                                            const std::vector<int32_t>& recent);
  // The random number of a row, if it needs one.
  uint32_t draw() { return options_.temperature == 0 ? 0 : random_.next(); }

  SamplerOptions options_;
  Philox random_;
  struct Candidate {
    float logit;
    int32_t id;
  };
  std::vector<Candidate> candidates_;
};

}  // namespace supra
