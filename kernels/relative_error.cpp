#include "kernels/by_rows.h"
#include "kernels/ops.h"

// relative_error: loss = E / S,  E = sum |y - t|^2,  S = sum |t|^2 over the steps that are there
//   y (B,T,C)  t (B,T,C)  loss (1).   dy = 2 (y - t) / S; zero in steps beyond a row's length

namespace supra {
namespace cpu {

// error = sum |y - t|^2, target = sum |t|^2 of each row
template <class T>
static void row_squares(double* error, double* target, const T* y, const T* t, int64_t N, int64_t C) {
  parallel_each(N, row_grain(C), [=](int64_t n) {
    double gaps = 0, squares = 0;
    for (int64_t i = n * C; i < (n + 1) * C; i++) {
      const double gap = double{y[i]} - double{t[i]};
      gaps += gap * gap;
      squares += double{t[i]} * double{t[i]};
    }
    error[n] = gaps, target[n] = squares;
  });
}

// dy = factor (y - t), 0 if the row's factor is 0
template <class T>
static void relative_error_bwd(T* dy, const T* y, const T* t, const T* factor, int64_t N, int64_t C) {
  for (int64_t n = 0; n < N; n++) {
    for (int64_t i = n * C; i < (n + 1) * C; i++) dy[i] = factor[n] != 0 ? factor[n] * (y[i] - t[i]) : 0;
  }
}

}  // namespace cpu

Var relative_error(const Var& y, const Tensor& t, const std::vector<int64_t>& lengths) {
  CHECK(y.value().rank() == 3, "relative_error: y is %s, expected (B,T,C)", to_string(y.shape()).c_str());
  check_shape("relative_error", "t", t.shape(), y.shape());
  const int64_t B = y.dim(0), T = y.dim(1), C = y.dim(2), N = B * T;
  CHECK(lengths.empty() || static_cast<int64_t>(lengths.size()) == B, "relative_error: %zu lengths for %ld rows",
        lengths.size(), static_cast<long>(B));
  const auto counts = [=](int64_t row) { return lengths.empty() || row % T < lengths[row / T]; };
  const Device device = y.value().device();
  const Tensor squares = Tensor::empty({2, N}, device == Device::cuda ? Dtype::f32 : Dtype::f64, device);
  const auto on_cpu = [&, y = y.value()]<class Real>(Real) {
    cpu::row_squares(at<double>(squares, 0), at<double>(squares, N), y.data<Real>(), t.data<Real>(), N, C);
  };
  const auto on_gpu = [&, y = y.value()]<class Real>(Real) {
    float* const error = squares.data<float>(Device::cuda);
    cuda::row_squares(error, error + N, y.data<Real>(Device::cuda), t.data<Real>(Device::cuda), N, C);
  };
  by_device("relative_error", y.value(), on_cpu, on_gpu);
  const Tensor here = squares.to(Device::cpu).to(Dtype::f64);
  double error = 0, target = 0;
  for (int64_t n = 0; n < N; n++) {
    if (counts(n)) error += here.data<double>()[n], target += here.data<double>()[N + n];
  }
  CHECK(target > 0, "relative_error: t is zero everywhere");
  const Tensor loss = Tensor::full({1}, error / target, sum_dtype(y.dtype()), device);
  return record("relative_error", {y}, loss, [=, y = y.value()](const Tensor& dloss, Grads& grads) {
    const double factor = 2 * dloss.item() / target;
    std::vector<double> of_rows(N);
    for (int64_t n = 0; n < N; n++) of_rows[n] = counts(n) ? factor : 0;
    const Tensor dy = empty_like(y), factors = Tensor::of(of_rows).to(sum_dtype(y.dtype())).to(device);
    by_rows("relative_error", y, N, C, PLAIN_KERNELS(relative_error_bwd), dy, y, t, PerRow{factors}, Count{N}, C);
    grads.give(0, dy);
  });
}

}  // namespace supra
