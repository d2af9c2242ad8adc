#include "tests/gpu/emulator/emulator.h"

#include <gtest/gtest.h>

#include <chrono>
#include <thread>

#include "kernels/mma.cuh"
#include "tests/gpu/emulator/fiber.h"
#include "tests/support.h"

// The emulator finds the mistakes that it promises to find: each kernel here has one, and the test checks the message.

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
    emulator::set_gpu_memory(size_t{80} << 30);
  }
};

// The message of the Error that launch() throws, or "nothing".
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
      "divergent barrier: threads 0-31 wait in __syncthreads (tests/gpu/emulator/emulator_test.cpp:");
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

// Two copies to the same place, one after the other. The kernel does not wait for the second.
__global__ void reads_too_late(float* out, const float* from) {
  float* const shared = cuda::shared_memory<float>();
  for (int copy = 0; copy < 2; copy++) {
    cuda::copy_async_16(shared, from, false);
    cuda::copy_async_commit();
    if (copy == 0) cuda::copy_async_wait<0>();
  }
  cuda::copy_async_wait<1>();
  *out = *shared;
}
__global__ void copies_to(float* to, const float* from) { cuda::copy_async_16(to, from, false); }

TEST_F(CudaEmulator, a_copy_takes_away_what_was_there) {
  alignas(16) float x[4] = {1, 2, 3, 4}, out = 0;
  cuda::launch<reads_too_late>({1, 1, 16}, &out, x);
  EXPECT_TRUE(std::isnan(out));
  EXPECT_SAYS(fault_of<copies_to>({1, 1, 16}, x, x), "which is not shared memory");
}

__global__ void writes_shared(int at) { cuda::shared_memory<volatile char>()[at] = 0; }
#if defined(__SANITIZE_ADDRESS__)
__global__ void reads_a_number(const volatile float* x) { *x; }
#endif

TEST_F(CudaEmulator, a_write_past_the_shared_memory_is_reported) {
  EXPECT_EQ(fault_of<writes_shared>({1, 1, 100}, 99), "nothing");
#if defined(__SANITIZE_ADDRESS__)
  const RestoreMachine restore;
  set_threads(1);
  EXPECT_DEATH(fault_of<writes_shared>({1, 1, 100}, 100), "use-after-poison");
  const std::shared_ptr<void> memory = cuda::allocate(100);
  EXPECT_DEATH(fault_of<reads_a_number>({1, 1}, static_cast<float*>(memory.get()) + 25), "heap-buffer-overflow");
#else
  EXPECT_SAYS(fault_of<writes_shared>({1, 1, 100}, 100), "a write past its 100 bytes of shared memory");
#endif
}

// Reads a block's shared memory, and then writes to it.
__global__ void reads_fresh(float* out) {
  float* const shared = cuda::shared_memory<float>();
  out[blockIdx.x] = *shared;
  *shared = 1;
}

TEST_F(CudaEmulator, fresh_memory_is_nan) {
  const RestoreMachine restore;
  set_threads(1);
  float out[3] = {};
  cuda::launch<reads_fresh>({3, 1, 4}, out);
  for (float value : out) EXPECT_TRUE(std::isnan(value));
  EXPECT_TRUE(std::isnan(*static_cast<float*>(cuda::allocate(4).get())));
}

TEST_F(CudaEmulator, launches_beyond_a_gpu_are_refused) {
  EXPECT_SAYS(fault_of<writes_shared>({1, 1025}, 0), "a block of 1025 threads, 1 to 1024 are possible");
  EXPECT_SAYS(fault_of<writes_shared>({{1, 65536}, 1, 1}, 0), "a grid above (2^31-1, 65535, 65535)");
  EXPECT_SAYS(fault_of<writes_shared>({1, 1, 228 * 1024}, 0),
              "needs 233472 bytes of shared memory for a block, this GPU has 232448");
  int sum = 0;
  // launch() allows more than 48 KB, and an empty grid is no work
  EXPECT_EQ(fault_of<writes_shared>({1, 1, 227 * 1024}, 0), "nothing");
  EXPECT_EQ(fault_of<writes_shared>({0, 2000}, 0), "nothing");
  EXPECT_EQ(fault_of<some_return_early>({{1, 1, 1}, {8, 8, 16}}, &sum), "nothing");
}

// out (10,32): a row for each function, with the result in each lane.
__global__ void lanes_together(unsigned* out) {
  const unsigned lane = threadIdx.x, all = cuda::kWholeWarp;
  const auto put = [&](int row, unsigned value) { out[row * 32 + lane] = value; };
  put(0, __ballot_sync(all, lane % 3 == 0));
  put(1, static_cast<unsigned>(__any_sync(all, lane == 31)) * 2 +
             static_cast<unsigned>(__all_sync(all, lane < 31)));
  put(2, __match_any_sync(all, lane / 8));
  put(3, __reduce_add_sync(all, lane));
  put(4, static_cast<unsigned>(__reduce_min_sync(all, static_cast<int>(lane) - 5)));
  put(5, __reduce_max_sync(all, lane ^ 5));
  put(6, __shfl_sync(all, lane, 3, 8));
  put(7, __shfl_down_sync(all, lane, 3, 16));
  put(8, __shfl_up_sync(all, lane, 3));
  put(9, static_cast<unsigned>(__shfl_xor_sync(all, uint64_t{lane} << 32, 16) >> 32));
}

TEST_F(CudaEmulator, lanes_see_what_the_others_bring) {
  unsigned out[10][32];
  cuda::launch<lanes_together>({1, 32}, &out[0][0]);
  for (unsigned lane = 0; lane < 32; lane++) {
    EXPECT_EQ(out[0][lane], 0x49249249u);
    EXPECT_EQ(out[1][lane], 2u);
    EXPECT_EQ(out[2][lane], 0xffu << lane / 8 * 8);
    EXPECT_EQ(out[3][lane], 496u);
    EXPECT_EQ(out[4][lane], static_cast<unsigned>(-5));
    EXPECT_EQ(out[5][lane], 31u);
    EXPECT_EQ(out[6][lane], lane / 8 * 8 + 3);
    EXPECT_EQ(out[7][lane], lane % 16 < 13 ? lane + 3 : lane);
    EXPECT_EQ(out[8][lane], lane < 3 ? lane : lane - 3);
    EXPECT_EQ(out[9][lane], lane ^ 16);
  }
}

// Each block waits until all blocks have come. False if that takes more than ten seconds.
template <class T>
__device__ bool all_came(T* arrived) {
  atomicAdd(arrived, T{1});
  const auto start = std::chrono::steady_clock::now();
  while (atomicAdd(arrived, T{0}) < static_cast<T>(gridDim.x)) {
    if (std::chrono::steady_clock::now() - start > std::chrono::seconds(10)) return false;
    std::this_thread::yield();
  }
  return true;
}

__global__ void blocks_wait_for_each_other(int* arrived, int* met) { atomicAdd(met, int{all_came(arrived)}); }

TEST_F(CudaEmulator, blocks_run_at_the_same_time) {
  const RestoreMachine restore;
  set_threads(3);
  int arrived = 0, met = 0;
  cuda::launch<blocks_wait_for_each_other>({3, 1}, &arrived, &met);
  EXPECT_EQ(met, 3);
}

// Each block adds the numbers below `times`: with atomicAdd to counts[0], with compare and swap to counts[1], and, after an
// exchange with counts[5], to counts[2]. counts[3] and counts[4]: the least and the largest number.
__global__ void counts_in_every_way(unsigned* counts, unsigned times) {
  all_came(&counts[6]);
  for (unsigned i = 0; i < times; i++) {
    atomicAdd(&counts[0], i);
    for (unsigned seen = 0, old; (old = atomicCAS(&counts[1], seen, seen + i)) != seen;) seen = old;
    atomicAdd(&counts[2], atomicExch(&counts[5], i));
    atomicMin(&counts[3], i), atomicMax(&counts[4], i);
  }
}

TEST_F(CudaEmulator, atomics_lose_nothing) {
  const RestoreMachine restore;
  set_threads(2);
  constexpr unsigned kTimes = 200000;
  unsigned counts[7] = {0, 0, 0, kTimes};
  cuda::launch<counts_in_every_way>({2, 1}, counts, kTimes);
  // modulo 2^32
  const auto sum = static_cast<unsigned>(uint64_t{kTimes} * (kTimes - 1));
  EXPECT_EQ(counts[0], sum);
  EXPECT_EQ(counts[1], sum);
  EXPECT_EQ(counts[2] + counts[5], sum);
  EXPECT_EQ(counts[3], 0u);
  EXPECT_EQ(counts[4], kTimes - 1);
}

// Sums through shared memory; each thread of each block adds in an order of its own.
__global__ void sums(float* out, const float* x) {
  float* const shared = cuda::shared_memory<float>();
  const unsigned i = threadIdx.x, n = blockDim.x;
  shared[i] = x[i] * static_cast<float>(blockIdx.x + 1);
  __syncthreads();
  float sum = 0;
  for (unsigned j = 0; j < n; j++) sum += shared[(i + j) % n];
  out[blockIdx.x * n + i] = cuda::warp_sum(sum);
}

__global__ void fails_from(unsigned block) {
  if (blockIdx.x >= block)
    cuda::check_aligned(reinterpret_cast<const void*>(4 * uintptr_t{blockIdx.x} + 1), 4);
}

TEST_F(CudaEmulator, the_number_of_threads_changes_nothing) {
  const RestoreMachine restore;
  const Tensor x = random_normal({96}, 1);
  Tensor first;
  std::string first_fault;
  for (const int threads : {1, 2, 5}) {
    set_threads(threads);
    for (Schedule schedule : {Schedule::in_order, Schedule::reversed, Schedule::shuffled}) {
      emulator::set_schedule(schedule);
      const Tensor out = Tensor::full({40, 96}, NAN);
      cuda::launch<sums>({40, 96, 96 * sizeof(float)}, out.data<float>(), x.data<float>());
      if (!first.defined()) first = out;
      EXPECT_TRUE(same_bits(out, first)) << threads << " threads";
    }
    emulator::set_schedule(Schedule::shuffled, 3);
    const std::string fault = fault_of<fails_from>({200, 1}, 60);
    if (first_fault.empty()) first_fault = fault;
    EXPECT_EQ(fault, first_fault) << threads << " threads";
  }
  EXPECT_TRUE(all_finite(first));
}

__global__ void doubles(float* x) { x[threadIdx.x] *= 2; }

TEST_F(CudaEmulator, a_graph_does_again_what_was_recorded) {
  const cuda::Stream stream;
  const cuda::StreamScope scope(stream);
  std::vector<float> x = {1, 2, 3, 4}, out(4);
  const size_t bytes = sizeof(float) * 4;
  cudaGraph_t graph;
  cudaGraphExec_t exec;
  cuda::check(cudaStreamBeginCapture(stream.handle(), cudaStreamCaptureModeThreadLocal), "capture");
  {
    const std::shared_ptr<void> memory = cuda::allocate(bytes);
    cuda::copy(memory.get(), Device::cuda, x.data(), Device::cpu, bytes);
    cuda::launch<doubles>({1, 4}, static_cast<float*>(memory.get()));
    // a copy to the CPU would have to wait, which a recorded stream cannot
    EXPECT_THROW(cuda::copy(out.data(), Device::cpu, memory.get(), Device::cuda, bytes), Error);
  }
  cuda::check(cudaStreamEndCapture(stream.handle(), &graph), "capture");
  cuda::check(cudaGraphInstantiate(&exec, graph), "instance");
  cuda::check(cudaGraphDestroy(graph), "graph");
  EXPECT_EQ(out, std::vector<float>(4));
  for (const float start : {1.0f, 10.0f}) {
    x.assign(4, start);
    cuda::check(cudaGraphLaunch(exec, stream.handle()), "launch");
    EXPECT_EQ(out, std::vector<float>(4, 2 * start));
  }
  cuda::check(cudaGraphExecDestroy(exec), "instance");
}

TEST_F(CudaEmulator, memory_has_an_end_and_what_is_free_is_known) {
  size_t before, free, total;
  cuda::check(cudaMemGetInfo(&before, &total), "memory");
  emulator::set_gpu_memory(total - before + 1000);
  const std::shared_ptr<void> memory = cuda::allocate(600);
  EXPECT_NE(memory, nullptr);
  cuda::check(cudaMemGetInfo(&free, &total), "memory");
  EXPECT_EQ(free, 400u);
  EXPECT_EQ(cuda::allocate(401), nullptr);
  EXPECT_NE(cuda::allocate(400), nullptr);
}

TEST_F(CudaEmulator, events_tell_the_time) {
  cudaEvent_t start, end;
  float milliseconds = -1;
  cudaEventCreate(&start), cudaEventCreate(&end);
  cudaEventRecord(start, cuda::current_stream());
  std::this_thread::sleep_for(std::chrono::milliseconds(2));
  cudaEventRecord(end, cuda::current_stream());
  cuda::check(cudaEventElapsedTime(&milliseconds, start, end), "time");
  EXPECT_GE(milliseconds, 2);
  cudaEventDestroy(start), cudaEventDestroy(end);
}

TEST_F(CudaEmulator, a_machine_with_no_gpu_says_so) {
  emulator::set_gpus(0);
  EXPECT_TRUE(cuda::gpus().empty());
  EXPECT_EQ(cuda::why_not(), "no CUDA-capable device is detected");
}

}  // namespace
}  // namespace supra
