#include "kernels/cuda.h"
#include "kernels/cuda_sampling.h"
#include "kernels/dispatch.h"
#include "supra/inference/sampler.h"

namespace supra {

std::vector<int32_t> Sampler::choose_on_gpu(std::span<Sampler> samplers, const Tensor& logits, int64_t ids,
                                            const std::vector<int32_t>& recent) {
  constexpr Device gpu = Device::cuda;
  const int64_t B = logits.dim(0);
  CHECK(ids <= 1 << kIdBits, "sampling: %ld tokens, the GPU can choose among at most %d (--device cpu has no limit)", static_cast<long>(ids), 1 << kIdBits);
  // for each row its random number; where its recent ids begin (only the first row has some); the recent ids
  std::vector<int32_t> given;
  for (Sampler& sampler : samplers) given.push_back(static_cast<int32_t>(sampler.draw()));
  for (int64_t b = 0; b <= B; b++) given.push_back(b == 0 ? 0 : static_cast<int32_t>(recent.size()));
  given.insert(given.end(), recent.begin(), recent.end());
  const Tensor there = Tensor::of(given).to(gpu), chosen = Tensor::empty({B}, Dtype::i32, gpu),
               scratch = Tensor::empty({B, ids}, Dtype::f32, gpu);
  const int32_t* const draws = there.data<int32_t>(gpu);
  by_device("sampling", logits, [](auto) {}, [&]<class T>(T) {
    cuda::sample(chosen.data<int32_t>(gpu), scratch.data<float>(gpu), logits.data<T>(gpu),
                 reinterpret_cast<const uint32_t*>(draws), draws + B, draws + 2 * B + 1, B, ids, logits.dim(1),
                 samplers[0].options_);
  });
  const Tensor back = chosen.to(Device::cpu);
  return {back.data<int32_t>(), back.data<int32_t>() + B};
}

}  // namespace supra
