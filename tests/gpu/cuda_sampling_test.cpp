#include "supra/inference/sampler.h"
#include "tests/gpu/cuda_support.h"

// The GPU chooses what the CPU does, from the same logits and draws.

namespace supra {
namespace {

// Logits of few different values, where ties are everywhere, and of many.
Tensor random_logits(int64_t B, int64_t O, uint64_t seed) {
  const Tensor x = random_normal({B, O}, seed);
  for (int64_t i = 0; i < B / 2 * O; i++) x.data<float>()[i] = std::round(3 * x.data<float>()[i]) / 2;
  return x;
}

std::vector<SamplerOptions> some_options() {
  std::vector<SamplerOptions> all;
  for (const double temperature : {0.0, 0.7, 30.0}) {
    for (const int64_t top_k : {0, 1, 5, 1000}) {
      for (const double top_p : {1.0, 0.9, 0.01}) {
        for (const double min_p : {0.0, 0.1, 1.0}) all.push_back({temperature, top_k, top_p, min_p});
      }
    }
  }
  return all;
}

}  // namespace

TEST_F(Cuda, chooses_the_tokens_that_the_cpu_does) {
  constexpr int64_t B = 4, O = 150, known = 147;
  uint64_t seed = 1;
  for (SamplerOptions options : some_options()) {
    SCOPED_TRACE(format("temperature %g, top-k %ld, top-p %g, min-p %g", options.temperature, long(options.top_k),
                        options.top_p, options.min_p));
    const bool in_bf16 = seed % 2 == 0;
    Tensor logits = random_logits(B, O, seed++);
    if (in_bf16) logits = logits.to(Dtype::bf16).to(Dtype::f32);
    std::vector<Sampler> here, there;
    for (uint64_t b = 0; b < B; b++) {
      options.seed = seed * B + b;
      here.emplace_back(options), there.emplace_back(options);
    }
    const Tensor given = gpu(logits).to(in_bf16 ? Dtype::bf16 : Dtype::f32);
    // the second time from the next draws
    for (int time = 0; time < 2; time++) {
      EXPECT_EQ(Sampler::choose_rows(there, given, known), Sampler::choose_rows(here, logits, known));
    }
  }
}

TEST_F(Cuda, recent_tokens_are_penalised_as_on_the_cpu) {
  constexpr int64_t O = 40;
  std::vector<int32_t> recent;
  SamplerOptions options = {.temperature = 1, .top_p = 0.8, .repeat_penalty = 3, .repeat_window = 8};
  Sampler here(options), there(options);
  for (uint64_t i = 0; i < 20; i++) {
    const Tensor logits = random_normal({1, O}, i);
    const int32_t id = here.choose(logits, recent);
    EXPECT_EQ(there.choose(gpu(logits), recent), id);
    recent.push_back(id);
    recent.push_back(static_cast<int32_t>(i * 7 % 5));
  }
  // what was given stays as it was
  const Tensor logits = gpu(Tensor::of<float>({1, 1, 5, 0}, {1, 4}));
  options.temperature = 0;
  const std::vector<int32_t> two = {2};
  EXPECT_EQ(Sampler(options).choose(logits, two), 2);
  options.repeat_penalty = 10;
  EXPECT_EQ(Sampler(options).choose(logits, two), 0);
  EXPECT_EQ(logits.rows(0, 1).to(Device::cpu).data<float>()[2], 5);
}

TEST_F(Cuda, infinite_logits_and_nan) {
  constexpr float inf = std::numeric_limits<float>::infinity();
  for (const double temperature : {0.0, 1.0}) {
    for (const std::vector<float>& row : std::vector<std::vector<float>>{
             {-inf, 2, -inf, 1}, {-inf, -inf, -inf}, {1, inf, inf}, {-0.0f, 0.0f, -1}}) {
      const Tensor logits = Tensor::of(row, {1, static_cast<int64_t>(row.size())});
      for (uint64_t seed = 0; seed < 4; seed++) {
        const SamplerOptions options = {.temperature = temperature, .top_p = seed % 2 ? 1 : 0.9, .seed = seed};
        EXPECT_EQ(Sampler(options).choose(gpu(logits)), Sampler(options).choose(logits));
      }
    }
  }
  const Tensor broken = Tensor::of<float>({1, NAN, 3, NAN}, {1, 4});
  for (const Tensor& logits : {broken, gpu(broken)}) {
    try {
      Sampler(SamplerOptions{}).choose(logits);
      ADD_FAILURE() << "a NaN was chosen from";
    } catch (const Error& error) {
      EXPECT_STREQ(error.what(), "sampling: the logit of token 1 is NaN");
    }
  }
}

}  // namespace supra
