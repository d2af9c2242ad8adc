#include "kernels/multiply.h"

#include "kernels/cuda.h"
#include "kernels/dispatch.h"
#include "kernels/gemm.h"
#include "kernels/row_sums.h"

namespace supra {

constexpr Device gpu = Device::cuda;

void multiply(const char* op, const Tensor& c, bool accumulate, const Tensor& a, bool ta, const Tensor& b,
              bool tb, const Epilogue& after) {
  // no structured binding: clang++ 14 lets no lambda use one
  const Tensor &bias = after.bias, &sums = after.sums;
  const bool relu = after.relu;
  const int64_t N = c.dim(-1), M = row_count(c), K = ta ? row_count(a) : a.dim(-1);
  by_device(
      op, a,
      [&]<class T>(T) {
        CHECK(!sums.defined(), "%s: row sums within a product are for the GPU", op);
        if (bias.defined()) repeat_row(op, c, bias);
        gemm(ta, tb, M, N, K, a.data<T>(), a.dim(-1), b.data<T>(), b.dim(-1), accumulate || bias.defined(),
             c.data<T>(), N);
        if (relu) rectify(op, c);
      },
      [&]<class T>(T) {
        const Tensor factor = b.to(a.dtype()), term = bias.defined() ? bias.to(c.dtype()) : bias;
        const auto go = [&]<class Out>(Out) {
          cuda::gemm(
              {.ta = ta, .tb = tb, .M = M, .N = N, .K = K, .lda = a.dim(-1), .ldb = b.dim(-1), .ldc = N},
              a.data<T>(gpu), factor.data<T>(gpu), accumulate, c.data<Out>(gpu),
              {data_or_null<Out>(term, gpu), relu, data_or_null<float>(sums, gpu)});
        };
        c.dtype() == Dtype::f32 ? go(float()) : go(T());
      });
}

namespace cpu {

template <class T>
static void repeat_row(T* y, const T* row, int64_t N, int64_t C) {
  for (int64_t n = 0; n < N; n++) std::copy_n(row, C, y + n * C);
}

template <class T>
static void add_columns(T* sums, const T* x, int64_t N, int64_t C) {
  for (int64_t row = 0; row < N; row++) {
    for (int64_t i = 0; i < C; i++) sums[i] += x[row * C + i];
  }
}

static void add_rows(double* sums, const double* x, int64_t N, int64_t C) { add_columns(sums, x, N, C); }
static void add_rows(float* sums, const float* x, int64_t N, int64_t C) {
  add_row_sums({sums}, N, C, [&](int64_t begin, int64_t end, float* partial) {
    add_columns(partial, x + begin * C, end - begin, C);
  });
}

}  // namespace cpu

void repeat_row(const char* op, const Tensor& y, const Tensor& row) {
  const int64_t C = y.dim(-1), N = row_count(y);
  by_device(op, y, OVERLOADS(cpu::repeat_row), OVERLOADS(cuda::repeat_row), y, Wide{row}, N, C);
}

void add_rows(const char* op, const Tensor& sums, const Tensor& x) {
  const int64_t C = x.dim(-1), N = row_count(x);
  by_device(op, x, OVERLOADS(cpu::add_rows), OVERLOADS(cuda::add_rows), Wide{sums}, x, N, C);
}

}  // namespace supra
