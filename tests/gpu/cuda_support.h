#pragma once
#include <gtest/gtest.h>

#include <functional>

#include "kernels/cuda.h"
#include "kernels/ops.h"
#include "tests/support.h"
#if !defined(SUPRA_CUDA)
#include "tests/gpu/emulator/emulator.h"
#include "tests/gpu/emulator/fiber.h"
#endif

// What the tests of the GPU's kernels share. They compare them with the f64 references of the ops. In a build
// with CUDA they run on the GPU, in any other on the emulator, with the threads of a block in three orders.
// Either way every run must give the same bits.

namespace supra {

class Cuda : public testing::Test {
 protected:
  void SetUp() override {
#if !defined(SUPRA_CUDA)
    if (const char* trouble = emulator::fibers_trouble()) GTEST_SKIP() << trouble;
#endif
    if (const std::string reason = cuda::why_not(); !reason.empty()) GTEST_SKIP() << reason;
    set_poison(true);
  }
  void TearDown() override {
    set_poison(false);
#if !defined(SUPRA_CUDA)
    emulator::set_schedule(emulator::Schedule::in_order);
    emulator::set_most_shared_memory(emulator::kMostShared);
#endif
  }
};

using Results = std::vector<Tensor>;

// What f returns, on the CPU; the same bits however the GPU's threads take turns.
inline Results on_gpu(const std::function<Results()>& f) {
  Results first;
  for (int run = 0; run < 3; run++) {
#if !defined(SUPRA_CUDA)
    emulator::set_schedule(static_cast<emulator::Schedule>(run), 7);
#endif
    Results results = f();
    for (Tensor& t : results) t = t.to(Device::cpu);
    if (run == 0) first = results;
    for (size_t i = 0; i < results.size(); i++) {
      EXPECT_TRUE(same_bits(results[i], first[i])) << "run " << run << ", result " << i;
    }
  }
  return first;
}

#if !defined(SUPRA_CUDA)
// on_gpu() on a card whose blocks have so much shared memory instead of Hopper's 227 KB.
inline Results on_gpu_with_shared_memory(size_t bytes, const std::function<Results()>& f) {
  emulator::set_most_shared_memory(bytes);
  const Results results = on_gpu(f);
  emulator::set_most_shared_memory(emulator::kMostShared);
  return results;
}
// f gives the same bits on a card with 99 KB (sm_86, sm_89), where kernels copy less ahead.
inline void expect_same_bits_with_less_shared_memory(const std::function<Results()>& f, const char* const* names) {
  const Results large = on_gpu(f), small = on_gpu_with_shared_memory(99 * 1024, f);
  for (size_t i = 0; i < large.size(); i++) EXPECT_TRUE(same_bits(small[i], large[i])) << names[i];
}
#endif

inline Tensor gpu(const Tensor& t) { return t.to(Device::cuda); }
inline Tensor gpu_empty(const Shape& shape, Dtype dtype = Dtype::f32) {
  return Tensor::empty(shape, dtype, Device::cuda);
}

template <class T>
T* at(const Tensor& t) {
  return t.defined() ? t.data<T>(Device::cuda) : nullptr;
}

// bf16 keeps 8 bits: rounding a number loses up to 2^-8 of it.
constexpr double kBf16 = 1.0 / 256 / kNormalisedError;

template <class T>
constexpr double tolerance() {
  return dtype_of<T>() == Dtype::f32 ? 1 : kBf16;
}

}  // namespace supra
