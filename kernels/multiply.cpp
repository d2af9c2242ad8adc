#include "kernels/multiply.h"

#include "kernels/by_rows.h"
#include "kernels/cuda_multiply.h"
#include "kernels/gemm.h"

namespace supra {

void multiply(const char* op, const cuda::Product& p, const Tensor& c, bool accumulate, const Tensor& a, const Tensor& b,
              const Epilogue& after) {
  const auto on_cpu = [&]<class T>(T) {
    CHECK(!after.sums.defined(), "%s: row sums within a product are for the GPU", op);
    if (after.bias.defined()) repeat_row(op, c, after.bias);
    for (int64_t i = 0; i < p.batch; i++) {
      gemm(p.ta, p.tb, p.M, p.N, p.K, a.data<T>() + i * p.a_step, p.lda, b.data<T>() + i * p.b_step, p.ldb,
           accumulate || after.bias.defined(), c.data<T>() + i * p.c_step, p.ldc);
    }
    if (after.relu) rectify(op, c);
  };
  by_device(op, a, on_cpu, [&]<class T>(T) { multiply_on_gpu<T>(p, c, accumulate, a, b, after); });
}

void multiply(const char* op, const Tensor& c, bool accumulate, const Tensor& a, bool ta, const Tensor& b, bool tb,
              const Epilogue& after) {
  const int64_t M = row_count(c), N = c.dim(-1), K = ta ? row_count(a) : a.dim(-1);
  const cuda::Product p = {.ta = ta, .tb = tb, .M = M, .N = N, .K = K, .lda = a.dim(-1), .ldb = b.dim(-1), .ldc = N};
  multiply(op, p, c, accumulate, a, b, after);
}

namespace cpu {

template <class T>
static void repeat_row(T* y, const T* row, int64_t N, int64_t C) {
  for (int64_t n = 0; n < N; n++) std::copy_n(row, C, y + n * C);
}

template <class T>
static void add_rows(T* sums, const T* x, int64_t N, int64_t C) {
  for (int64_t row = 0; row < N; row++) {
    for (int64_t i = 0; i < C; i++) sums[i] += x[row * C + i];
  }
}

}  // namespace cpu

void repeat_row(const char* op, const Tensor& y, const Tensor& row) {
  by_device(op, y, OVERLOADS(cpu::repeat_row), OVERLOADS(cuda::repeat_row), y, Wide{row}, row_count(y), y.dim(-1));
}

void add_rows(const char* op, const Tensor& sums, const Tensor& x) {
  const int64_t C = x.dim(-1), N = row_count(x);
  by_rows(op, x, N, C, PLAIN_KERNELS(add_rows), RowSum{sums}, x, Count{N}, C);
}

}  // namespace supra
