#include "tests/cuda_emulator/emulator.h"

#include <gtest/gtest.h>

#include "kernels/mma.cuh"
#include "tests/cuda_emulator/fiber.h"
#include "tests/support.h"

// The emulator finds what it promises to find: kernels with a mistake each, and the words it has for them.

namespace supra {
namespace {

using emulator::Schedule;

class CudaEmulator : public testing::Test {
 protected:
  void SetUp() override {
    if (const char* trouble = emulator::fibers_trouble()) GTEST_SKIP() << trouble;
  }
  void TearDown() override {
    emulator::set_schedule(Schedule::in_order);
    emulator::set_gpus(1);
  }
};

// What launch() throws, or "nothing".
template <auto kernel, class... Args>
std::string fault_of(const cuda::LaunchShape& shape, Args... args) {
  try {
    cuda::launch<kernel>(shape, args...);
  } catch (const Error& error) {
    return error.what();
  }
  return "nothing";
}

bool has(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }
#define EXPECT_SAYS(text, part) EXPECT_TRUE(has(text, part)) << text

__global__ void half_a_block_waits(int waiting) {
  if (threadIdx.x < static_cast<unsigned>(waiting)) __syncthreads();
  cuda::warp_sum(1);
  __syncthreads();
}

TEST_F(CudaEmulator, a_divergent_barrier_is_reported_with_who_waits_where) {
  EXPECT_EQ(fault_of<half_a_block_waits>({2, 64}, 64), "nothing");
  const std::string between_warps = fault_of<half_a_block_waits>({2, 64}, 32);
  EXPECT_SAYS(between_warps,
              "half_a_block_waits, grid (2,1,1), block (64,1,1), 0 bytes of shared memory: block (0,0,0)");
  EXPECT_SAYS(
      between_warps,
      "divergent barrier: threads 0-31 wait in __syncthreads (tests/cuda_emulator/emulator_test.cpp:");
  EXPECT_SAYS(between_warps, "threads 32-63 wait in __syncthreads (");
  const std::string in_a_warp = fault_of<half_a_block_waits>({1, 32}, 16);
  EXPECT_SAYS(in_a_warp, "divergent barrier: threads 0-15 wait in __syncthreads");
  EXPECT_SAYS(in_a_warp, "threads 16-31 wait in __shfl_xor_sync");
}

__global__ void some_return_early(int* sum) {
  if (threadIdx.x >= 40) return;
  __syncthreads();
  atomicAdd(sum, 1);
}

TEST_F(CudaEmulator, threads_that_returned_are_not_waited_for) {
  int sum = 0;
  EXPECT_EQ(fault_of<some_return_early>({1, 96}, &sum), "nothing");
  EXPECT_EQ(sum, 40);
}

__global__ void one_lane_returns(float* out) {
  if (threadIdx.x == 3) return;
  *out = cuda::warp_sum(1);
}

TEST_F(CudaEmulator, a_warp_operation_needs_all_lanes) {
  float out;
  EXPECT_SAYS(fault_of<one_lane_returns>({1, 32}, &out), "with 31 lanes of a warp, it takes all 32");
}

__global__ void reads_a_vector(float* out, const float* x) { *out = cuda::vector_at<const float4>(x).x; }
__global__ void loads_matrices(const Bf16* row, bool shared) {
  uint32_t m[4];
  cuda::load_matrices(m, shared ? cuda::shared_memory<Bf16>() + threadIdx.x * 9 : row);
}
__global__ void copies(const float* from) { cuda::copy_async_16(cuda::shared_memory<float>(), from, false); }

TEST_F(CudaEmulator, misalignment_is_reported) {
  alignas(16) float x[8] = {1, 2, 3, 4, 5, 6, 7, 8}, out;
  EXPECT_EQ(fault_of<reads_a_vector>({1, 1}, &out, x), "nothing");
  EXPECT_SAYS(fault_of<reads_a_vector>({1, 1}, &out, x + 1),
              format("misaligned access: 16 bytes at %p", (void*)(x + 1)));
  EXPECT_SAYS(fault_of<loads_matrices>({1, 32, 1024}, nullptr, true),
              "thread (1,0,0): misaligned access: 16 bytes");
  EXPECT_SAYS(fault_of<copies>({1, 1, 64}, x + 2), "misaligned access");
  EXPECT_SAYS(fault_of<loads_matrices>({1, 32, 1024}, reinterpret_cast<const Bf16*>(x), false),
              "is not shared memory");
}

// out[i] = the number that the left neighbour wrote
__global__ void neighbours(float* out, bool barrier) {
  float* const shared = cuda::shared_memory<float>();
  const int i = threadIdx.x, n = blockDim.x;
  shared[i] = static_cast<float>(i);
  if (barrier) __syncthreads();
  out[i] = shared[(i + n - 1) % n];
}

TEST_F(CudaEmulator, a_missing_barrier_reads_nan_in_some_order) {
  for (const bool barrier : {true, false}) {
    for (Schedule schedule : {Schedule::in_order, Schedule::reversed, Schedule::shuffled}) {
      emulator::set_schedule(schedule);
      float out[40];
      cuda::launch<neighbours>({1, 40, sizeof out}, out, barrier);
      const bool right = all_finite(Tensor::of(std::vector<float>(out, out + 40)));
      EXPECT_EQ(right, barrier) << static_cast<int>(schedule);
    }
  }
}

__global__ void takes_a_copy(float* out, const float* from, bool wait) {
  cuda::copy_async_16(cuda::shared_memory<float>(), from, false);
  cuda::copy_async_16(cuda::shared_memory<float>() + 4, from, true);
  cuda::copy_async_commit();
  if (wait) cuda::copy_async_wait<0>();
  for (int i = 0; i < 8; i++) out[i] = cuda::shared_memory<float>()[i];
}

TEST_F(CudaEmulator, a_copy_is_there_after_the_wait_and_not_before) {
  alignas(16) const float x[4] = {1, 2, 3, 4};
  float out[8];
  cuda::launch<takes_a_copy>({1, 1, 32}, out, x, true);
  EXPECT_EQ(std::vector<float>(out, out + 8), (std::vector<float>{1, 2, 3, 4, 0, 0, 0, 0}));
  cuda::launch<takes_a_copy>({1, 1, 32}, out, x, false);
  for (float value : out) EXPECT_TRUE(std::isnan(value));
}

__global__ void writes_shared(int at) { cuda::shared_memory<volatile char>()[at] = 0; }

TEST_F(CudaEmulator, a_write_past_the_shared_memory_is_reported) {
#if defined(__SANITIZE_ADDRESS__)
  GTEST_SKIP() << "the address sanitizer ends the program first";
#endif
  EXPECT_EQ(fault_of<writes_shared>({1, 1, 100}, 99), "nothing");
  EXPECT_SAYS(fault_of<writes_shared>({1, 1, 100}, 100), "a write past its 100 bytes of shared memory");
}

TEST_F(CudaEmulator, launches_beyond_a_gpu_are_refused) {
  EXPECT_SAYS(fault_of<writes_shared>({1, 1025}, 0), "a block of 1025 threads, 1 to 1024 are possible");
  EXPECT_SAYS(fault_of<writes_shared>({{1, 65536}, 1, 1}, 0), "a grid above (2^31-1, 65535, 65535)");
  EXPECT_SAYS(fault_of<writes_shared>({1, 1, 228 * 1024}, 0),
              "233472 bytes of shared memory, a GPU has 232448");
  int sum = 0;
  // launch() asks for what is above 48 KB, and an empty grid is no work
  EXPECT_EQ(fault_of<writes_shared>({1, 1, 227 * 1024}, 0), "nothing");
  EXPECT_EQ(fault_of<writes_shared>({0, 2000}, 0), "nothing");
  EXPECT_EQ(fault_of<some_return_early>({{1, 1, 1}, {8, 8, 16}}, &sum), "nothing");
}

// One product with all fragments loaded as the address recipes of mma.cuh say. a, b in shared memory as given
// or transposed: C = A B for A (16,16) and B (16,16), two products of (16,8).
__global__ void multiplies(float* c, const Bf16* a, const Bf16* b, bool transposed) {
  const cuda::Tile<16> A = {cuda::shared_memory<Bf16>()}, B = {A.elements + A.size(16)};
  for (int i = threadIdx.x; i < 256; i += 32) {
    const int row = i / 16, column = i % 16;
    *(transposed ? A.at(column, row) : A.at(row, column)) = a[i];
    *(transposed ? B.at(column, row) : B.at(row, column)) = b[i];
  }
  __syncthreads();
  const int lane = threadIdx.x;
  uint32_t x[4], y[4];
  transposed ? cuda::load_a_of_transposed(x, A, 0, 0, lane) : cuda::load_a(x, A, 0, 0, lane);
  transposed ? cuda::load_b_of_transposed(y, B, 0, 0, lane) : cuda::load_b(y, B, 0, 0, lane);
  for (int tile = 0; tile < 2; tile++) {
    float sum[4] = {};
    cuda::mma(sum, x, y[2 * tile], y[2 * tile + 1]);
    for (int e = 0; e < 4; e++) c[(lane / 4 + e / 2 * 8) * 16 + tile * 8 + lane % 4 * 2 + e % 2] = sum[e];
  }
}

TEST_F(CudaEmulator, fragments_and_products_fit_together) {
  const Tensor a = random_normal({16, 16}, 1).to(Dtype::bf16), b = random_normal({16, 16}, 2).to(Dtype::bf16);
  const Tensor a64 = a.to(Dtype::f64), b64 = b.to(Dtype::f64), truth = Tensor::zeros({16, 16}, Dtype::f64);
  for (int i = 0; i < 16 * 16 * 16; i++) {
    const int m = i / 256, n = i / 16 % 16, k = i % 16;
    truth.data<double>()[m * 16 + n] += a64.data<double>()[m * 16 + k] * b64.data<double>()[k * 16 + n];
  }
  for (const bool transposed : {false, true}) {
    const Tensor c = Tensor::empty({16, 16});
    cuda::launch<multiplies>({1, 32, 2048}, c.data<float>(), a.data<Bf16>(), b.data<Bf16>(), transposed);
    expect_close(c, truth, transposed ? "transposed" : "as it is");
  }
}

TEST_F(CudaEmulator, a_machine_with_no_gpu_says_so) {
  emulator::set_gpus(0);
  EXPECT_TRUE(cuda::gpus().empty());
  EXPECT_EQ(cuda::why_not(), "no CUDA-capable device is detected");
}

}  // namespace
}  // namespace supra
