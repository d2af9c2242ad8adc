#pragma once
#include <stdint.h>

// The precision of the factors of matrix products on the CPU. Tensors, sums and results are always float32. Products with M, N
// or K below 32, such as those of single tokens, always use float32 factors.
//
//   f32     the factors are used unchanged
//   bf16    each factor x is rounded to high(x) = bf16(x): 8 bits, to nearest, ties to even; denormals are zero, NaN stays NaN
//   bf16x3  each is split in two, high(x) and low(x) = bf16(x - high(x)), 16 bits together; high a high b, high a low b
//           and low a high b are added, the product of the lows is left out. x = infinity gives NaN
//
// An element of C has the same bits on every processor with fused multiply-adds, for any threads, blocks and instructions. K is
// padded with zeros to a multiple of 32. Then, with every sum and every fma rounded to float32 and denormals flushed:
//
//   c = accumulate ? c : 0
//   for each 32 terms, in order:
//     for each pair of (part of a, part of b) in bf16: (high, high)   in bf16x3: (low, high), (high, low), (high, high)
//       even = odd = 0
//       for k = 0, 2, ... 30:  even = fma(a[k], b[k], even);  odd = fma(a[k + 1], b[k + 1], odd)
//       c = c + (even + odd)
//
// AMX computes in this way (TDPBF16PS). VDPBF16PS adds two terms to one sum, the second first; it gives the same bits if a
// pair holds terms k + 2 and k. Processors with neither compute them with fma().

namespace supra {

enum class Products { f32, bf16x3, bf16 };

const char* name(Products products);
Products products_named(const char* word, const char* where);  // the reverse; throws Error that begins with `where`
Products products();  // the value of SUPRA_PRODUCTS, or f32, until it is set. Throws Error if the value is unknown
bool products_asked_for();  // SUPRA_PRODUCTS is set
// bf16 if the processor has instructions that make it faster than f32 and give the bits defined above, otherwise f32. Both
// are tested once with one product, which takes some milliseconds.
Products fastest_products();
void set_products(Products products);  // for all threads; call it outside of parallel_for

// While this object lives, products have that precision.
struct UseProducts {
  explicit UseProducts(Products products);
  ~UseProducts();
  UseProducts(const UseProducts&) = delete;
  const Products before;
};

// The kernel for a product of this size, or null if its factors stay in f32. Its arguments are `products` and then those of
// gemm(). It is the kernel of the level in use, or avx512's if VDPBF16PS is slow. One measurement finds the faster one.
using Bf16Gemm = void (*)(Products products, bool ta, bool tb, int64_t M, int64_t N, int64_t K, const float* a, int64_t lda,
                          const float* b, int64_t ldb, bool accumulate, float* c, int64_t ldc);
Bf16Gemm bf16_gemm_for(int64_t M, int64_t N, int64_t K);

// For the user: which instructions multiply in bf16 here, and how fast, measured in some milliseconds.
const char* bf16_instructions();
double speed_of(Products products);  // as a multiple of the speed of f32

}  // namespace supra
