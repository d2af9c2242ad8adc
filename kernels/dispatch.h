#pragma once
#include <algorithm>
#include <type_traits>

#include "tensor/parallel.h"
#include "tensor/tensor.h"

// Choosing the code of an op by dtype and device. by_rows.h also divides its rows among the threads.

namespace supra {

// Calls the code for x: on the CPU cpu(float()), the fast path, or cpu(double()), the reference; on the GPU gpu(float()) or
// gpu(Bf16()), which get their pointers with data<T>(Device::cuda). Other dtypes and devices throw an error with the op's name.
template <class Cpu, class Gpu>
void by_device(const char* op, const Tensor& x, Cpu cpu, [[maybe_unused]] Gpu gpu) {
  const Dtype dtype = x.dtype();
  try {
#if defined(SUPRA_INFERENCE)
    // builds for hosts have neither references nor GPU code
    if (dtype == Dtype::f32) return cpu(float());
#else
    const bool on_gpu = x.device() == Device::cuda;
    if (dtype == Dtype::f32) return on_gpu ? gpu(float()) : cpu(float());
    if (dtype == Dtype::bf16 && on_gpu) return gpu(Bf16());
    if (dtype == Dtype::f64 && !on_gpu) return cpu(double());
    CHECK(!on_gpu, "%s: works on f32 and bf16 on the GPU, %s was given", op, name(dtype));
#endif
    fail("%s: works on f32, %s was given (convert it with to())", op, name(dtype));
  } catch (const WrongDevice& error) {
    fail("%s: %s", op, error.what());
  }
}

// For optional arguments: nullptr if the tensor is undefined.
template <class T>
T* data_or_null(const Tensor& t, Device on = Device::cpu) {
  return t.defined() ? t.data<T>(on) : nullptr;
}

// An element of an optional argument; nullptr if the tensor is undefined.
template <class T>
T* at(const Tensor& t, int64_t offset) {
  return t.defined() ? t.data<T>() + offset : nullptr;
}

// A weight, a statistic or a sum as an argument of by_device(): f64 for the reference, otherwise f32. May be undefined.
struct Wide {
  const Tensor& tensor;
  explicit Wide(const Tensor& tensor) : tensor(tensor) {}

  template <class T>
  auto data(Device on) const {
    return data_or_null<std::conditional_t<std::is_same_v<T, double>, double, float>>(tensor, on);
  }
};

// What a kernel for T gets: of an argument with a data<T>(device), such as a tensor, that pointer, everything else as it is.
template <class T, class Arg>
auto kernel_argument(const Arg& arg, Device on) {
  if constexpr (requires { arg.template data<T>(on); }) return arg.template data<T>(on);
  else return arg;
}

// An overloaded kernel as a value.
#define OVERLOADS(kernel) [](auto... args) { kernel(args...); }

// The same for two kernels with the same arguments: by_device("mul", a, OVERLOADS(cpu::mul), OVERLOADS(cuda::mul), y, a, b, n).
template <class Cpu, class Gpu, class... Args>
void by_device(const char* op, const Tensor& x, Cpu cpu, Gpu gpu, const Args&... args) {
  by_device(
      op, x, [&]<class T>(T) { cpu(kernel_argument<T>(args, Device::cpu)...); },
      [&]<class T>(T) { gpu(kernel_argument<T>(args, Device::cuda)...); });
}

// The dtype of statistics and sums: f64 for the reference, otherwise f32.
inline Dtype sum_dtype(Dtype dtype) { return dtype == Dtype::f64 ? Dtype::f64 : Dtype::f32; }

// All dimensions but the last are rows.
inline int64_t row_count(const Tensor& t) { return t.dim(-1) == 0 ? 0 : t.numel() / t.dim(-1); }

// The grain of a parallel_for over rows of C elements: smaller ranges cost less than waking a thread.
inline int64_t row_grain(int64_t C) { return std::max<int64_t>(1, 16384 / std::max<int64_t>(1, C)); }

// parallel_for, an element at a time: f(i) for each i below n.
template <class F>
void parallel_each(int64_t n, int64_t grain, F f) {
  parallel_for(n, grain, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; i++) f(i);
  });
}

}  // namespace supra
