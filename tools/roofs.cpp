#include "tools/roofs.h"

#include <algorithm>
#include <chrono>

#include "kernels/simd.h"
#include "tensor/parallel.h"
#include "tensor/tensor.h"

namespace supra {
namespace {

// The most units a second of calls of `f`, which returns the units it did.
double best_rate(double seconds, FunctionRef<double()> f) {
  using Clock = std::chrono::steady_clock;
  const auto start = Clock::now();
  double best = 0;
  for (int run = 0; run < 3 || std::chrono::duration<double>(Clock::now() - start).count() < seconds; run++) {
    const auto before = Clock::now();
    const double units = f();
    best = std::max(best, units / std::chrono::duration<double>(Clock::now() - before).count());
  }
  return best / 1e9;
}

// Every thread's own part of n, in this thread alone where `one_core` is set.
void each_thread(int64_t n, bool one_core, FunctionRef<void(int64_t, int64_t)> f) {
  one_core ? f(0, n) : parallel_for(n, 1, f);
}

double fma_rate(bool one_core, double seconds) {
  return best_rate(seconds, [&] {
    std::vector<double> flop(static_cast<size_t>(one_core ? 1 : threads()));
    each_thread(static_cast<int64_t>(flop.size()), one_core, [&](int64_t i, int64_t) {
      float factors[2] = {0.999f, 0.001f};
      simd().fma_loop(&flop[static_cast<size_t>(i)], factors, 200'000);
    });
    double sum = 0;
    for (double part : flop) sum += part;
    return sum;
  });
}

double read_rate(const Tensor& x, bool one_core, double seconds) {
  return best_rate(seconds, [&] {
    each_thread(x.numel(), one_core, [&](int64_t begin, int64_t end) {
      float sum;
      simd().read_loop(&sum, x.data<float>() + begin, end - begin);
    });
    return static_cast<double>(x.bytes());
  });
}

double copy_rate(const Tensor& y, const Tensor& x, bool streaming, bool one_core, double seconds) {
  // parts of whole blocks, so that every thread's part is aligned
  constexpr int64_t kBlock = 4096;
  return best_rate(seconds, [&] {
    each_thread(x.numel() / kBlock, one_core, [&](int64_t begin, int64_t end) {
      simd().copy_loop(y.data<float>() + begin * kBlock, x.data<float>() + begin * kBlock,
                       (end - begin) * kBlock, streaming);
    });
    return 2.0 * static_cast<double>(x.bytes());
  });
}

}  // namespace

Roofs measure_roofs(double seconds, int64_t bytes) {
  const double share = seconds / 8;
  Roofs roofs;
  roofs.threads = threads();
  roofs.fma_core = fma_rate(true, share);
  roofs.fma = std::max(roofs.fma_core, fma_rate(false, share));
  // written to, since pages that were only promised are all read from one
  const Tensor x = Tensor::full({bytes / 4}, 1), y = Tensor::full({bytes / 4}, 1);
  roofs.read_core = read_rate(x, true, share);
  roofs.read = std::max(roofs.read_core, read_rate(x, false, share));
  for (bool streaming : {false, true}) {
    roofs.copy_core = std::max(roofs.copy_core, copy_rate(y, x, streaming, true, share));
    const double copy = copy_rate(y, x, streaming, false, share);
    if (copy > roofs.copy) roofs.copy_streams = streaming;
    roofs.copy = std::max(roofs.copy, copy);
  }
  // on a busy machine one thread may do better than all
  roofs.copy = std::max(roofs.copy, roofs.copy_core);
  return roofs;
}

double compute_seconds(const Roofs& roofs, const Work& work, bool one_core) {
  return work.flop / 1e9 / (one_core ? roofs.fma_core : roofs.fma);
}

double memory_seconds(const Roofs& roofs, const Work& work, bool one_core) {
  const double copied = 2 * std::min(work.read, work.written), rest = work.read + work.written - copied;
  // there is no roof of writing alone: it is at most as fast as a copy
  const double rest_rate = work.read > work.written ? (one_core ? roofs.read_core : roofs.read)
                                                    : (one_core ? roofs.copy_core : roofs.copy);
  return copied / 1e9 / (one_core ? roofs.copy_core : roofs.copy) + rest / 1e9 / rest_rate;
}

}  // namespace supra
