#include "tests/gpu/cuda_support.h"

// Decode products on the GPU: few rows against weights as they are stored.

namespace supra {
namespace {

// y from w in `dtype`, against the reference with the same rounded weights
template <class T>
void check_gemv(Dtype dtype, int64_t N, int64_t O, int64_t C, bool with_bias, int64_t skip_rows = 0) {
  SCOPED_TRACE(format("%s by %s N%ld O%ld C%ld", name(dtype_of<T>()), name(dtype), long(N), long(O), long(C)));
  const Tensor x = random_normal({N, C}, 1, dtype_of<T>()), bias = random_normal({O}, 3);
  const Tensor w = random_normal({O + skip_rows, C}, 2).to(dtype);
  const auto wide = [](const Tensor& t) { return Var(t.to(Dtype::f32).to(Dtype::f64)); };
  const Tensor truth = linear(wide(x), Var(wide(w).value().rows(skip_rows, O + skip_rows)),
                              with_bias ? wide(bias) : Var())
                           .value();
  const Results got = on_gpu([&] {
    const Tensor there = gpu(w).rows(skip_rows, O + skip_rows);
    return Results{linear(Var(gpu(x)), Var(there), with_bias ? Var(gpu(bias)) : Var()).value()};
  });
  expect_close(got[0], truth, "y", tolerance<T>());
}

}  // namespace

TEST_F(Cuda, gemv_by_every_stored_type) {
  for (Dtype dtype : {Dtype::f32, Dtype::f16, Dtype::bf16, Dtype::q8_0, Dtype::q4_0, Dtype::q4_1}) {
    // rows aligned to 16, to 4 and to 2 bytes; a block left over; more columns than lanes have units
    for (int64_t C : {256, 64, 96, 32, 1344}) check_gemv<float>(dtype, 1, 9, C, true);
    check_gemv<Bf16>(dtype, 3, 17, 96, true);
    check_gemv<Bf16>(dtype, 8, 3, 256, false);
    // more of x than shared memory takes at once
    check_gemv<float>(dtype, 5, 2, 4160, false);
    check_gemv<float>(dtype, 1, 3, 96, true, 1);
  }
}

// More rows than a gemv takes: weights become what x is, and cuBLASLt multiplies.
TEST_F(Cuda, many_rows_by_every_stored_type) {
  for (Dtype dtype : {Dtype::f32, Dtype::f16, Dtype::bf16, Dtype::q8_0, Dtype::q4_0, Dtype::q4_1}) {
    for (int64_t N : {cuda::kGemvRows + 1, int64_t{33}}) {
      check_gemv<float>(dtype, N, 7, 96, true, 1);
      check_gemv<Bf16>(dtype, N, 10, 64, false);
    }
  }
}

TEST_F(Cuda, gemv_of_odd_widths) {
  for (Dtype dtype : {Dtype::f32, Dtype::f16, Dtype::bf16}) {
    for (int64_t C : {1, 6, 35, 131}) check_gemv<float>(dtype, 2, 5, C, true);
  }
  check_gemv<Bf16>(Dtype::f32, 1, 1, 1, false);
}

TEST_F(Cuda, gemv_gives_no_gradient) {
  const Var x(gpu(random_normal({1, 32}, 1)), true), w(gpu(random_normal({4, 32}, 2).to(Dtype::q8_0)));
  EXPECT_THROW(linear(x, w), Error);
  const NoGrad no_grad;
  EXPECT_EQ(linear(x, w).shape(), (Shape{1, 4}));
}

}  // namespace supra
