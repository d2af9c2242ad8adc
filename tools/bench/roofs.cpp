#include "tools/bench/roofs.h"

#include <algorithm>
#include <chrono>
#include <numeric>

#include "kernels/products.h"
#include "kernels/simd.h"
#include "tensor/parallel.h"
#include "tensor/tensor.h"

namespace supra {
namespace {

// The highest rate, in units per second, of calls of `f`, which returns the units of a call.
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

// Divides n among all threads, or runs it in this thread if `one_core` is set.
void each_thread(int64_t n, bool one_core, FunctionRef<void(int64_t, int64_t)> f) {
  one_core ? f(0, n) : parallel_for(n, 1, f);
}

double fma_rate(bool one_core, double seconds) {
  std::vector<double> flop(static_cast<size_t>(one_core ? 4 : 4 * threads()));
  return best_rate(seconds, [&] {
    each_thread(static_cast<int64_t>(flop.size()), one_core, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; i++) {
        float factors[2] = {0.999f, 0.001f};
        simd().fma_loop(&flop[static_cast<size_t>(i)], factors, 100'000);
      }
    });
    return std::accumulate(flop.begin(), flop.end(), 0.0);
  });
}

double bf16_rate(bool one_core, double seconds) {
  std::vector<double> flop(static_cast<size_t>(one_core ? 4 : 4 * threads()));
  return best_rate(seconds, [&] {
    each_thread(static_cast<int64_t>(flop.size()), one_core, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; i++) simd().bf16_loop(&flop[static_cast<size_t>(i)], 200);
    });
    return std::accumulate(flop.begin(), flop.end(), 0.0);
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

Roofs measure_roofs(double seconds, const Roofs& before, int64_t bytes) {
  const double share = seconds / 10;
  Roofs best = before;
  best.threads = threads();
  // written first, because all pages that were never written are read from a single one
  const Tensor x = Tensor::full({bytes / 4}, 1), y = Tensor::full({bytes / 4}, 1);
  for (bool one_core : {true, false}) {
    double& fma = one_core ? best.fma_core : best.fma;
    double& read = one_core ? best.read_core : best.read;
    double& copy = one_core ? best.copy_core : best.copy;
    double& bf16 = one_core ? best.bf16_core : best.bf16;
    fma = std::max(fma, fma_rate(one_core, share));
    bf16 = std::max(bf16, bf16_rate(one_core, share));
    read = std::max(read, read_rate(x, one_core, share));
    const double plain = copy_rate(y, x, false, one_core, share),
                 streaming = copy_rate(y, x, true, one_core, share);
    if (std::max(plain, streaming) > copy) best.copy_streams = streaming > plain;
    copy = std::max({copy, plain, streaming});
  }
  // on a busy machine one thread may be faster than all
  best.fma = std::max(best.fma, best.fma_core);
  best.bf16 = std::max(best.bf16, best.bf16_core);
  best.read = std::max(best.read, best.read_core);
  best.copy = std::max(best.copy, best.copy_core);
  return best;
}

Bound bound_of(const Roofs& roofs, const Work& work) {
  const bool one = work.one_core;
  const double bytes = work.read + work.written, copied = 2 * std::min(work.read, work.written);
  const double copy = one ? roofs.copy_core : roofs.copy;
  // no operation writes faster than a copy
  const double rest = work.read > work.written ? (one ? roofs.read_core : roofs.read) : copy;
  const double in_bf16 = (one ? roofs.bf16_core : roofs.bf16) / (products() == Products::bf16x3 ? 3 : 1);
  const bool rounded = roofs.gpu.empty() && products() != Products::f32;
  const double compute = work.flop / (rounded ? in_bf16 : one ? roofs.fma_core : roofs.fma) / 1e9;
  const double memory = (copied / copy + (bytes - copied) / rest) / 1e9;
  if (compute >= memory) return {rounded ? name(products()) : roofs.gpu.empty() ? "fma" : "matrix", "GFLOP/s", work.flop, compute};
  return {"memory", "GB/s", bytes, memory};
}

}  // namespace supra
