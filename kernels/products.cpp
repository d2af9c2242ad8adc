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

bool products_asked_for() {
  const char* word = getenv("SUPRA_PRODUCTS");
  return word && *word;
}

static Products& in_use() {
  static Products products = products_asked_for() ? products_named(getenv("SUPRA_PRODUCTS"), "SUPRA_PRODUCTS") : Products::f32;
  return products;
}

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

UseProducts::UseProducts(Products products) : before(in_use()) { set_products(products); }
UseProducts::~UseProducts() { set_products(before); }

// c = a a^T (n,n), in this thread
template <class Kernel>
static void square(Kernel multiply, const Tensor& c, const Tensor& a) {
  const int64_t n = a.dim(0);
  multiply(false, true, n, n, n, a.data<float>(), n, a.data<float>(), n, false, c.data<float>(), n);
}

static auto with(Products products, Bf16Gemm kernel) {
  return [=](auto... args) { kernel(products, args...); };
}

// The best time of a few.
template <class Kernel>
static double seconds_of(Kernel multiply) {
  const Tensor a = Tensor::full({192, 192}, 1), c = empty_like(a);
  double best = 1;
  for (int run = 0; run < 5; run++) {
    const auto start = std::chrono::steady_clock::now();
    square(multiply, c, a);
    best = std::min(best, std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
  }
  return best;
}

static Bf16Gemm fastest_kernel() {
#if defined(__x86_64__)
  if (cpu_level() == CpuLevel::avx512bf16) {
    static const bool slow = seconds_of(with(Products::bf16, avx512::bf16_gemm_tile)) <
                             seconds_of(with(Products::bf16, avx512bf16::bf16_gemm_tile));
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
  if (cpu_level() == CpuLevel::amx) return "AMX";
  if (cpu_level() != CpuLevel::avx512bf16) return "fma alone";
  return fastest_kernel() == simd().bf16_gemm_tile ? "AVX512-BF16" : "fma, faster here than AVX512-BF16";
}

double speed_of(Products products) { return seconds_of(simd().gemm_tile) / seconds_of(with(products, fastest_kernel())); }

// Whether the instructions give the bits of fused multiply-adds on this processor, too: not every processor has been tried.
static bool gives_the_defined_bits() {
#if defined(__x86_64__)
  const Tensor a = Tensor::empty({96, 96}), c = empty_like(a), defined = empty_like(a);
  for (int64_t i = 0; i < a.numel(); i++) a.data<float>()[i] = static_cast<float>(i * 7919 % 1013) / 512 - 1;
  square(with(Products::bf16, fastest_kernel()), c, a);
  square(with(Products::bf16, avx512::bf16_gemm_tile), defined, a);
  return memcmp(c.raw(), defined.raw(), c.bytes()) == 0;
#else
  return false;
#endif
}

Products fastest_products() {
  // such instructions at least double the speed if the processor executes them as such, which the measurement finds out
  static const bool better = cpu_level() >= CpuLevel::avx512bf16 && speed_of(Products::bf16) > 1.4 && gives_the_defined_bits();
  return better ? Products::bf16 : Products::f32;
}

}  // namespace supra
