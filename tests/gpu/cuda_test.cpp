#include "tests/gpu/cuda_support.h"

namespace supra {

TEST_F(Cuda, copies_come_back_as_they_went) {
  const Tensor x = random_normal({3, 5}, 1);
  const Tensor there = gpu(x);
  EXPECT_EQ(there.device(), Device::cuda);
  EXPECT_TRUE(same_bits(there.to(Device::cpu), x));
  EXPECT_TRUE(same_bits(there.clone().to(Device::cpu), x));
  EXPECT_TRUE(same_bits(there.rows(1, 2).to(Device::cpu), x.rows(1, 2).clone()));
  EXPECT_EQ(there.view({15}).rows(7, 8).item(), x.data<float>()[7]);
  EXPECT_TRUE(same_bits(Tensor::zeros({7}, Dtype::bf16, Device::cuda).to(Device::cpu),
                        Tensor::zeros({7}, Dtype::bf16)));
  EXPECT_TRUE(
      same_bits(Tensor::full({7}, 3, Dtype::f32, Device::cuda).to(Device::cpu), Tensor::full({7}, 3)));
  EXPECT_EQ(gpu(Tensor::empty({0, 4})).to(Device::cpu).shape(), (Shape{0, 4}));
  EXPECT_TRUE(std::isnan(gpu_empty({9}).to(Device::cpu).data<float>()[8]));
}

// Also where the GPU reads the processor's memory by itself, and later.
TEST_F(Cuda, what_was_uploaded_may_change_at_once) {
  for (const bool reads_pageable : {false, true}) {
#if !defined(SUPRA_CUDA)
    emulator::set_reads_pageable_memory(reads_pageable);
#endif
    const Tensor x = random_normal({3, 5}, 1), source = x.clone(), there = gpu_empty({3, 5});
    there.copy_from(source);
    source.fill(7);
    EXPECT_TRUE(same_bits(there.to(Device::cpu), x)) << reads_pageable;
  }
#if !defined(SUPRA_CUDA)
  emulator::set_reads_pageable_memory(false);
#endif
}

TEST_F(Cuda, memory_is_counted_and_given_back) {
  const MemoryStats cpu = memory_stats(), before = memory_stats(Device::cuda);
  {
    const Tensor x = gpu_empty({1000});
    EXPECT_EQ(memory_stats(Device::cuda).current, before.current + 4000);
    EXPECT_EQ(memory_stats().current, cpu.current);
  }
  EXPECT_EQ(memory_stats(Device::cuda).current, before.current);
  EXPECT_GE(memory_stats(Device::cuda).peak, before.current + 4000);
}

TEST_F(Cuda, a_stream_of_ones_own_does_the_same) {
  const Tensor x = random_normal({64}, 1), on_default = gpu(x);
  const cuda::Stream::Handle first = cuda::current_stream();
  const cuda::Stream stream;
  {
    const cuda::StreamScope scope(stream);
    EXPECT_EQ(cuda::current_stream(), stream.handle());
    cuda::wait_for(first);
    EXPECT_TRUE(same_bits(on_default.clone().to(Device::cpu), x));
    cuda::synchronize();
  }
  EXPECT_EQ(cuda::current_stream(), first);
}

std::string message_of(const std::function<void()>& f) {
  try {
    f();
  } catch (const Error& error) {
    return error.what();
  }
  return "nothing was thrown";
}

TEST_F(Cuda, the_cpu_does_not_read_the_gpus_memory) {
  const Tensor x = gpu(random_normal({2, 3}, 1));
  EXPECT_EQ(
      message_of([&] { x.data<float>(); }),
      "a tensor of shape (2, 3) lies on the device cuda, code for cpu was to use it (move it with to())");
  EXPECT_EQ(
      message_of([&] { x.to(Device::cpu).data<float>(Device::cuda); }),
      "a tensor of shape (2, 3) lies on the device cpu, code for cuda was to use it (move it with to())");
  EXPECT_NE(message_of([&] { x.to(Dtype::f64); }).find("works on f32 and bf16, f64 was given"), std::string::npos);
  const Var w(Tensor::full({3}, 1));
  EXPECT_EQ(message_of([&] {
              rmsnorm(Var(x), w, 1e-5);
            }).rfind("rmsnorm: a tensor of shape (3) lies on the device cpu", 0),
            0u);
  EXPECT_EQ(message_of([&] {
              rmsnorm(Var(gpu_empty({2, 3}, Dtype::f64)), w, 1e-5);
            }),
            "rmsnorm: works on f32 and bf16 on the GPU, f64 was given");
}

TEST_F(Cuda, no_rows_are_no_work) {
  const Var x(gpu_empty({0, 8}), true), w(gpu(Tensor::full({8}, 1)), true);
  backward(rmsnorm(x, w, 1e-5), gpu_empty({0, 8}));
  EXPECT_TRUE(same_bits(w.grad().to(Device::cpu), Tensor::zeros({8})));
}

}  // namespace supra
