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

const char* asked_for() {
  const char* word = getenv("SUPRA_PRODUCTS");
  return word && *word ? word : nullptr;
}

Products& in_use() {
  static Products products = asked_for() ? products_named(asked_for(), "SUPRA_PRODUCTS") : Products::f32;
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

Products products_named(const char* word, const char* where) {
  for (Products each : {Products::f32, Products::bf16x3, Products::bf16}) {
    if (strcmp(word, name(each)) == 0) return each;
  }
  fail("%s: products are \"%s\"; f32, bf16x3 and bf16 are known", where, word);
}

Products products() { return in_use(); }
void set_products(Products products) { in_use() = products; }
bool products_asked_for() { return asked_for() != nullptr; }

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

// Whether the instructions give the bits of fused multiply-adds here too: nobody has run this on every processor.
static bool gives_the_defined_bits() {
#if defined(__x86_64__)
  constexpr int64_t n = 96;
  const Tensor a = Tensor::empty({n, n}), c = Tensor::empty({n, n}), defined = Tensor::empty({n, n});
  for (int64_t i = 0; i < n * n; i++) a.data<float>()[i] = static_cast<float>(i * 7919 % 1013) / 512 - 1;
  const auto multiply = [&](Bf16Gemm kernel, const Tensor& to) {
    kernel(Products::bf16, false, true, n, n, n, a.data<float>(), n, a.data<float>(), n, false, to.data<float>(), n);
  };
  multiply(fastest_kernel(), c);
  multiply(avx512::bf16_gemm_tile, defined);
  return memcmp(c.data<float>(), defined.data<float>(), c.bytes()) == 0;
#else
  return false;
#endif
}

Products fastest_products() {
  // such instructions double the speed, or more: what is measured is whether this processor executes them so
  static const bool better =
      cpu_level() >= CpuLevel::avx512bf16 && speed_of(Products::bf16) > 1.4 && gives_the_defined_bits();
  return better ? Products::bf16 : Products::f32;
}

}  // namespace supra
