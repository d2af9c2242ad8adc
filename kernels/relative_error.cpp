#include "kernels/cuda.h"
#include "kernels/dispatch.h"
#include "kernels/ops.h"
#include "tensor/parallel.h"

// relative_error: loss = E / S,  E = sum |y - t|^2,  S = sum |t|^2 over the steps that are there
//   y (B,T,C)  t (B,T,C)  loss (1).   dy = 2 (y - t) / S; zero in steps beyond a row's length

namespace supra {
namespace {

struct Squares {
  double error = 0, target = 0;
};

template <class T>
Squares squares_of(const T* y, const T* t, int64_t n) {
  Squares sum;
  for (int64_t i = 0; i < n; i++) {
    const double gap = double{y[i]} - double{t[i]};
    sum.error += gap * gap;
    sum.target += double{t[i]} * double{t[i]};
  }
  return sum;
}

}  // namespace

Var relative_error(const Var& y, const Tensor& t, const std::vector<int64_t>& lengths) {
  CHECK(y.value().rank() == 3, "relative_error: y is %s, expected (B,T,C)", to_string(y.shape()).c_str());
  check_shape("relative_error", "t", t.shape(), y.shape());
  const int64_t B = y.dim(0), T = y.dim(1), C = y.dim(2);
  CHECK(lengths.empty() || static_cast<int64_t>(lengths.size()) == B, "relative_error: %zu lengths for %ld rows",
        lengths.size(), static_cast<long>(B));
  const auto counts = [=](int64_t row) { return lengths.empty() || row % T < lengths[row / T]; };
  constexpr Device gpu = Device::cuda;
  std::vector<Squares> rows(B * T);
  by_device(
      "relative_error", y.value(),
      [&, value = y.value()]<class Real>(Real) {
        parallel_for(B * T, row_grain(C), [&](int64_t begin, int64_t end) {
          for (int64_t n = begin; n < end; n++) {
            if (counts(n)) rows[n] = squares_of(value.data<Real>() + n * C, t.data<Real>() + n * C, C);
          }
        });
      },
      [&, value = y.value()]<class Real>(Real) {
        const Tensor both = Tensor::empty({2, B * T}, Dtype::f32, gpu);
        float* const squares = both.data<float>(gpu);
        cuda::row_squares(squares, squares + B * T, value.data<Real>(gpu), t.data<Real>(gpu), B * T, C);
        const Tensor here = both.to(Device::cpu);
        const float *error = here.data<float>(), *target = error + B * T;
        for (int64_t n = 0; n < B * T; n++) {
          if (counts(n)) rows[n] = {error[n], target[n]};
        }
      });
  Squares sum;
  for (const Squares& row : rows) sum.error += row.error, sum.target += row.target;
  CHECK(sum.target > 0, "relative_error: t is zero everywhere");
  const Tensor loss = Tensor::full({1}, sum.error / sum.target, sum_dtype(y.dtype()), y.value().device());
  return record("relative_error", {y}, loss, [=, y = y.value()](const Tensor& dloss, Grads& grads) {
    const Tensor dy = empty_like(y);
    const double factor = 2 * dloss.item() / sum.target;
    by_device(
        "relative_error", y,
        [&]<class Real>(Real) {
          parallel_for(B * T, row_grain(C), [&](int64_t begin, int64_t end) {
            for (int64_t n = begin; n < end; n++) {
              for (int64_t i = n * C; i < (n + 1) * C; i++) {
                const Real gap = y.data<Real>()[i] - t.data<Real>()[i];
                dy.data<Real>()[i] = counts(n) ? static_cast<Real>(factor) * gap : 0;
              }
            }
          });
        },
        [&]<class Real>(Real) {
          const Tensor factors = Tensor::empty({B * T});
          for (int64_t n = 0; n < B * T; n++)
            factors.data<float>()[n] = counts(n) ? static_cast<float>(factor) : 0;
          cuda::relative_error_bwd(dy.data<Real>(gpu), y.data<Real>(gpu), t.data<Real>(gpu),
                                   factors.to(gpu).data<float>(gpu), B * T, C);
        });
    grads.give(0, dy);
  });
}

}  // namespace supra
