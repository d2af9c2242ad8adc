#include "kernels/gemv.h"

#include <algorithm>

#include "kernels/dispatch.h"
#include "kernels/products.h"
#include "kernels/simd.h"
#include "tensor/quantized.h"

namespace supra {
namespace {

constexpr int64_t kFewRows = 4;
// Weights that one thread reads in the time of waking another.
constexpr int64_t kGrain = 1 << 16;

// x (M,C) for products with quantised weights, in `memory`, which is allocated.
Int8Rows to_int8_rows(Tensor& memory, const float* x, int64_t M, int64_t C, Dtype dtype) {
  const int64_t stride = (C / kBlock + 7) / 8 * 8;
  memory = Tensor::empty({M * stride * (2 + 2 * kBlock / 4)});
  float* scales = memory.data<float>();
  auto* quants = reinterpret_cast<int8_t*>(scales + 2 * M * stride);
  const Int8Rows rows = {quants, quants + M * stride * kBlock, scales, scales + M * stride, stride};
  std::fill_n(scales, 2 * M * stride, 0.0f);
  for (int64_t m = 0; m < M; m++) {
    const int64_t at = m * stride, quant = at * kBlock;
    simd().to_int8({rows.high + quant, rows.low + quant, rows.scales + at, rows.sums + at, stride}, x + m * C, C, dtype);
  }
  return rows;
}

// M <= kFewRows
void multiply_few(float* y, const float* x, int64_t M, const Tensor& w, bool accumulate) {
  const int64_t O = w.dim(0), C = w.dim(1), bytes = static_cast<int64_t>(row_bytes(w.dtype(), C));
  const bool quantized = is_quantized(w.dtype());
  Tensor memory;
  const Int8Rows in_int8 = quantized ? to_int8_rows(memory, x, M, C, w.dtype()) : Int8Rows();
  parallel_for(O, kGrain / std::max<int64_t>(1, C), [&](int64_t begin, int64_t end) {
    const char* rows = static_cast<const char*>(w.raw()) + begin * bytes;
    if (quantized)
      simd().int8_gemm_dots(M, end - begin, C, in_int8, rows, w.dtype(), bytes, accumulate, y + begin, O);
    else
      simd().gemm_dots(M, end - begin, C, x, C, rows, w.dtype(), C, accumulate, y + begin, O);
  });
}

// Each thread turns a block of rows of w into f32, which stays in its cache while all rows of x are multiplied with it.
// Products in bf16 pack x for every block, so their blocks are larger.
void multiply_many(float* y, const float* x, int64_t M, const Tensor& w, bool accumulate) {
  const int64_t O = w.dim(0), C = w.dim(1), bytes = static_cast<int64_t>(row_bytes(w.dtype(), C));
  const Bf16Gemm in_bf16 = bf16_gemm_for(M, O, C);
  const int64_t at_once = in_bf16 ? 192 : 96, blocks = (O + at_once - 1) / at_once;
  const auto multiply = [=](auto... args) { in_bf16 ? in_bf16(products(), args...) : simd().gemm_tile(args...); };
  parallel_for(blocks, 1, [&](int64_t begin, int64_t end) {
    const Tensor block = Tensor::empty({at_once, C});
    for (int64_t row = begin * at_once; row < std::min(O, end * at_once); row += at_once) {
      const int64_t rows = std::min(at_once, O - row);
      const char* stored = static_cast<const char*>(w.raw()) + row * bytes;
      for (int64_t i = 0; i < rows; i++) simd().to_f32(block.data<float>() + i * C, stored + i * bytes, w.dtype(), C);
      multiply(false, true, M, rows, C, x, C, block.data<float>(), C, accumulate, y + row, O);
    }
  });
}

}  // namespace

void multiply_stored(const Tensor& y, const Tensor& x, const Tensor& w, bool accumulate) {
  const int64_t M = row_count(x);
  const Dtype dtype = w.dtype();
  CHECK(x.dtype() == Dtype::f32 && (dtype == Dtype::f16 || dtype == Dtype::bf16 || is_quantized(dtype)),
        "linear: weights in %s and input in %s (both the same, or f16, bf16, q8_0, q4_0 or q4_1 weights with f32)", name(dtype),
        name(x.dtype()));
  const auto multiply = M <= kFewRows ? multiply_few : multiply_many;
  multiply(y.data<float>(), x.data<float>(), M, w, accumulate);
}

}  // namespace supra
