#include "kernels/cuda.h"
#include "kernels/cuda_sampling.h"
#include "tensor/cuda.cuh"

// Chooses a token for each row of logits (N,O) (sampling.h has the rules: penalties, top-k, min-p, temperature, top-p). A block
// takes a row; a thread takes every 1024th token. Nothing is sorted. "The fewest of the largest tokens whose weights reach a
// sum" are found as in a radix sort, digit by digit of a number by which tokens are ordered: the block adds the weights of all
// tokens with the same digit, and then looks only at the digit at which the sum is reached. Weights are integers, so atomics
// may add them in any order. Latency bounds it: one block walks along a row up to 20 times, out of the L2 cache.

namespace supra::cuda {

namespace {

using Sum = unsigned long long;

constexpr int kThreads = 1024, kDigit = 11, kBins = 1 << kDigit, kRounds = 5;
static_assert(kRounds * kDigit == 32 + kIdBits);
constexpr int kLaneBins = kBins / 32;

struct Shared {
  // a gap follows the bins of each lane, so that 32 lanes read 32 different banks
  Sum bins[kBins + 32];
  Sum digit, before, reached;
  Sum of_warp[kThreads / 32];
  int nan;

  __device__ static int place(int digit) { return digit + digit / kLaneBins; }
};

struct Prefix {
  Sum last, sum;  // the order of the last token, and the sum up to it
};

// The fewest of the O tokens, the largest order(i) first, whose weight(i) sum up to `goal`. The sum of all reaches it.
// round: the first digits that are 0 in all orders are skipped.
template <class Order, class Weight>
__device__ Prefix fewest(int64_t O, int round, Sum goal, Shared& shared, Order order, Weight weight) {
  Sum last = 0, before = 0;
  for (; round < kRounds; round++) {
    const int shift = (kRounds - 1 - round) * kDigit;
    for (int i = threadIdx.x; i < kBins + 32; i += kThreads) shared.bins[i] = 0;
    __syncthreads();
    for (int64_t i = threadIdx.x; i < O; i += kThreads) {
      const Sum place = order(i) >> shift;
      if (place >> kDigit != last) continue;
      if (const Sum w = weight(i)) atomicAdd(&shared.bins[Shared::place(place % kBins)], w);
    }
    __syncthreads();
    if (threadIdx.x < 32) {
      // lane 0 has the largest digits
      int digit = kBins - 1 - static_cast<int>(threadIdx.x) * kLaneBins;
      Sum mine = 0;
      for (int i = 0; i < kLaneBins; i++) mine += shared.bins[Shared::place(digit - i)];
      const Sum reached = before + warp_prefix_sum(mine);
      if (reached - mine < goal && goal <= reached) {
        Sum sum = reached - mine;
        for (; sum + shared.bins[Shared::place(digit)] < goal; digit--) sum += shared.bins[Shared::place(digit)];
        shared.digit = digit, shared.before = sum, shared.reached = sum + shared.bins[Shared::place(digit)];
      }
    }
    __syncthreads();
    last = last << kDigit | shared.digit, before = shared.before;
  }
  return {last, shared.reached};
}

template <class T>
__global__ void __launch_bounds__(kThreads)
    sample_kernel(int32_t* chosen, float* scratch, const T* logits, const uint32_t* draws, const int32_t* begins,
                  const int32_t* recent, int64_t O, int64_t stride, SamplerOptions options) {
  Shared& shared = *shared_memory<Shared>();
  const int64_t row = blockIdx.x;
  logits += row * stride;
  float* const x = scratch + row * O;
  if (threadIdx.x == 0) shared.nan = INT32_MAX;
  __syncthreads();
  for (int64_t i = threadIdx.x; i < O; i += kThreads) {
    x[i] = to_float(logits[i]);
    if (x[i] != x[i]) atomicMin(&shared.nan, static_cast<int>(i));
  }
  __syncthreads();
  if (shared.nan != INT32_MAX) {
    if (threadIdx.x == 0) chosen[row] = -1 - shared.nan;
    return;
  }
  for (int i = begins[row] + threadIdx.x; i < begins[row + 1]; i += kThreads) {
    x[recent[i]] = options.penalised(x[recent[i]]);
  }
  __syncthreads();
  Sum first = 0;
  for (int64_t i = threadIdx.x; i < O; i += kThreads) {
    const Sum order = order_of(x[i], i);
    if (order > first) first = order;
  }
  first = over_block(first, shared.of_warp, [](Sum a, Sum b) { return a > b ? a : b; });
  if (options.temperature == 0) {
    if (threadIdx.x == 0) chosen[row] = static_cast<int32_t>(id_of(first));
    return;
  }

  const float largest = x[id_of(first)];
  const bool cuts = options.cuts();
  const Sum least = to_weight(options.min_p);
  // tokens with a smaller order are cut off
  Sum end = 0;
  const auto order = [=](int64_t i) -> Sum { return cuts ? order_of(x[i], i) : order_of(0, i) % (1 << kIdBits); };
  const auto weight = [&](int64_t i) -> Sum {
    if (order(i) < end) return 0;
    if (x[i] == largest) return to_weight(1);
    const Sum w = to_weight(exp((x[i] - static_cast<double>(largest)) / options.temperature));
    return w < least ? 0 : w;
  };
  if (options.top_k > 0 && options.top_k < O) {
    end = fewest(O, 0, options.top_k, shared, order, [](int64_t) { return 1; }).last;
  }
  Sum total = 0;
  for (int64_t i = threadIdx.x; i < O; i += kThreads) total += weight(i);
  total = over_block(total, shared.of_warp, [](Sum a, Sum b) { return a + b; });
  if (options.top_p < 1) {
    const Prefix left = fewest(O, 0, share_of(total, options.top_p), shared, order, weight);
    end = left.last, total = left.sum;
  }
  const Prefix drawn = fewest(O, cuts ? 0 : 2, drawn_sum(total, draws[row]), shared, order, weight);
  if (threadIdx.x == 0) chosen[row] = static_cast<int32_t>(id_of(drawn.last));
}

}  // namespace

template <class T>
void sample(int32_t* chosen, float* scratch, const T* logits, const uint32_t* draws, const int32_t* begins,
            const int32_t* recent, int64_t N, int64_t O, int64_t stride, const SamplerOptions& options) {
  launch<sample_kernel<T>>({blocks(N, 1), kThreads, sizeof(Shared)}, chosen, scratch, logits, draws, begins, recent, O,
                           stride, options);
}

template decltype(sample<float>) sample<float>;
template decltype(sample<Bf16>) sample<Bf16>;

}  // namespace supra::cuda
