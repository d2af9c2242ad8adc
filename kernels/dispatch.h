#pragma once
#include <algorithm>
#include <type_traits>

#include "tensor/tensor.h"

// Choosing the code of an op by dtype and device, and cutting its work into ranges.

namespace supra {

// Calls f(float()) for f32, the fast path, and f(double()) for f64, the reference. Other dtypes, and devices
// that f has no code for, throw an error with the op's name.
template <class F>
void by_dtype(const char* op, Dtype dtype, F f) {
  try {
    switch (dtype) {
      case Dtype::f32:
        return f(float());
#if !defined(SUPRA_INFERENCE)
      case Dtype::f64:
        return f(double());
#endif
      default:
        fail("%s: works on f32, %s was given (convert it with to())", op, name(dtype));
    }
  } catch (const WrongDevice& error) {
    fail("%s: %s", op, error.what());
  }
}

// The only place where an op with a CUDA kernel chooses by device: on the CPU by_dtype(op, dtype, cpu), on
// the GPU gpu(float()) or gpu(Bf16()). gpu gets its pointers with data<T>(Device::cuda).
template <class Cpu, class Gpu>
void by_device(const char* op, const Tensor& x, Cpu cpu, [[maybe_unused]] Gpu gpu) {
#if defined(SUPRA_INFERENCE)
  // builds for hosts have no GPU code
  by_dtype(op, x.dtype(), cpu);
#else
  if (x.device() == Device::cpu) return by_dtype(op, x.dtype(), cpu);
  try {
    switch (x.dtype()) {
      case Dtype::f32:
        return gpu(float());
      case Dtype::bf16:
        return gpu(Bf16());
      default:
        fail("%s: works on f32 and bf16 on the GPU, %s was given", op, name(x.dtype()));
    }
  } catch (const WrongDevice& error) {
    fail("%s: %s", op, error.what());
  }
#endif
}

// An overloaded kernel as a value, for by_device().
#define OVERLOADS(kernel) [](auto... args) { kernel(args...); }

// The same for two kernels with the same arguments. Arguments with a data<T>(device), such as tensors, are passed as that
// pointer, everything else as it is: by_device("mul", a, OVERLOADS(cpu::mul), OVERLOADS(cuda::mul), y, a, b, n).
template <class Cpu, class Gpu, class... Args>
  requires(sizeof...(Args) > 0)
void by_device(const char* op, const Tensor& x, Cpu cpu, Gpu gpu, const Args&... args) {
  const auto call = [&]<class T>(auto kernel, Device on) {
    const auto pointer = [on](const auto& arg) {
      if constexpr (requires { arg.template data<T>(on); }) return arg.template data<T>(on);
      else return arg;
    };
    kernel(pointer(args)...);
  };
  by_device(
      op, x, [&]<class T>(T) { call.template operator()<T>(cpu, Device::cpu); },
      [&]<class T>(T) { call.template operator()<T>(gpu, Device::cuda); });
}

// The dtype of statistics and sums: f64 for the reference, otherwise f32.
inline Dtype sum_dtype(Dtype dtype) { return dtype == Dtype::f64 ? Dtype::f64 : Dtype::f32; }

// For optional arguments: nullptr if the tensor is undefined.
template <class T>
T* data_or_null(const Tensor& t, Device on = Device::cpu) {
  return t.defined() ? t.data<T>(on) : nullptr;
}

// A weight, a statistic or a sum as an argument of by_device(): f64 for the reference, otherwise f32. May be undefined.
struct Wide {
  const Tensor& tensor;

  template <class T>
  auto data(Device on) const {
    return data_or_null<std::conditional_t<std::is_same_v<T, double>, double, float>>(tensor, on);
  }
};

// All dimensions but the last are rows.
inline int64_t row_count(const Tensor& t) { return t.dim(-1) == 0 ? 0 : t.numel() / t.dim(-1); }

// The grain of a parallel_for over rows of C elements: smaller ranges cost less than waking a thread.
inline int64_t row_grain(int64_t C) { return std::max<int64_t>(1, 16384 / std::max<int64_t>(1, C)); }

}  // namespace supra
