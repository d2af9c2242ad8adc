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

// Of one product in this thread, the best of a few.
template <class F>
double seconds_of(F multiply) {
  constexpr int64_t n = 192;
  const Tensor a = Tensor::full({n, n}, 1), c = Tensor::empty({n, n});
  double best = 1;
  for (int run = 0; run < 5; run++) {
    const auto start = std::chrono::steady_clock::now();
    multiply(false, true, n, n, n, a.data<float>(), n, a.data<float>(), n, false, c.data<float>(), n);
    best = std::min(best, std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
  }
  return best;
}

double seconds_of(Bf16Gemm kernel, Products products) {
  return seconds_of([=](auto... args) { kernel(products, args...); });
}

}  // namespace

const char* name(Products products) {
  static const char* names[] = {"f32", "bf16x3", "bf16"};
  return names[static_cast<int>(products)];
}

Products products() { return in_use(); }
void set_products(Products products) { in_use() = products; }

UseProducts::UseProducts(Products products) : before_(in_use()) { set_products(products); }
UseProducts::~UseProducts() { set_products(before_); }

static Bf16Gemm fastest_kernel() {
#if defined(__x86_64__)
  if (cpu_level() == CpuLevel::avx512bf16) {
    static const bool slow =
        seconds_of(avx512::bf16_gemm_tile, Products::bf16) < seconds_of(avx512bf16::bf16_gemm_tile, Products::bf16);
    if (slow) return avx512::bf16_gemm_tile;
  }
#endif
  return simd().bf16_gemm_tile;
}

Bf16Gemm bf16_gemm_for(int64_t M, int64_t N, int64_t K) {
  constexpr int64_t kLeast = 32;
  return products() != Products::f32 && std::min({M, N, K}) >= kLeast ? fastest_kernel() : nullptr;
}

const char* bf16_instructions() {
  switch (cpu_level()) {
    case CpuLevel::amx: return "AMX";
    case CpuLevel::avx512bf16: return fastest_kernel() == simd().bf16_gemm_tile ? "AVX512-BF16" : "fma, faster here than AVX512-BF16";
    default: return "fma alone";
  }
}

double speed_of(Products products) {
  return seconds_of(simd().gemm_tile) / seconds_of(fastest_kernel(), products);
}

}  // namespace supra
