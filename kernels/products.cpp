#include "kernels/products.h"

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <cstring>

#include "kernels/simd.h"
#include "tensor/cpu.h"
#include "tensor/error.h"
#include "tensor/tensor.h"

namespace supra {
namespace {

constexpr Products kAll[] = {Products::f32, Products::bf16x3, Products::bf16};

Products wanted() {
  const char* word = getenv("SUPRA_PRODUCTS");
  if (!word || !*word) return Products::f32;
  for (Products each : kAll) {
    if (strcmp(word, name(each)) == 0) return each;
  }
  fail("SUPRA_PRODUCTS=%s: use f32, bf16x3 or bf16", word);
}

Products& in_use() {
  static Products products = wanted();
  return products;
}

double seconds_of(Bf16Gemm kernel) {
  constexpr int64_t n = 96, K = 256;
  const Tensor a = Tensor::full({n, K}, 1), c = Tensor::empty({n, n});
  double best = 1;
  for (int run = 0; run < 5; run++) {
    const auto start = std::chrono::steady_clock::now();
    kernel(Products::bf16, false, true, n, n, K, a.data<float>(), K, a.data<float>(), K, false, c.data<float>(), n);
    best = std::min(best, std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
  }
  return best;
}

}  // namespace

const char* name(Products products) {
  static const char* names[] = {"f32", "bf16x3", "bf16"};
  return names[static_cast<int>(products)];
}

Products products() { return in_use(); }
void set_products(Products products) { in_use() = products; }

Bf16Gemm bf16_gemm_kernel() {
#if defined(__x86_64__)
  if (cpu_level() == CpuLevel::avx512bf16) {
    static const bool slow = seconds_of(avx512::bf16_gemm_tile) < seconds_of(avx512bf16::bf16_gemm_tile);
    if (slow) return avx512::bf16_gemm_tile;
  }
#endif
  return simd().bf16_gemm_tile;
}

}  // namespace supra
