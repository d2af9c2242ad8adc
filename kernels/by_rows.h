#pragma once
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

#include "kernels/cuda.h"
#include "kernels/dispatch.h"
#include "kernels/simd.h"

// Operations whose rows are independent of each other: dividing the rows among the threads.

namespace supra {

// Arguments of by_rows(), beside tensors of N rows and what all rows share (Wide and values): the number of rows, a statistic
// of each row, and the gradient of a weight, which is summed over the rows. If a RowSum is undefined, its sum is dropped.
struct Count {
  int64_t n;
  operator int64_t() const { return n; }
};
struct PerRow : Wide {
  using Wide::Wide;
};
struct RowSum : Wide {
  using Wide::Wide;
};

// sums[k] (C) += a sum over N rows. f(begin, end, partial) adds the contributions of rows [begin, end) to partial
// (number of sums, C), which begins with zeros. Rows are processed in blocks of 64 and blocks are added in order, so the bits
// do not depend on the thread count. A sum that is nullptr is not computed.
void add_row_sums(const std::vector<float*>& sums, int64_t N, int64_t C,
                  FunctionRef<void(int64_t begin, int64_t end, float* partial)> f);

// Row `begin` of a tensor of N rows.
float* rows_from(int64_t begin, int64_t N, const Tensor& rows);

// The reference, the fast kernel and the GPU's, which have one name and the same arguments.
#define KERNELS(name) OVERLOADS(cpu::name), OVERLOADS(simd().name), OVERLOADS(cuda::name)
// For an op that never calls by_rows() in f64.
#define NO_REFERENCE(name) [](auto...) {}, OVERLOADS(simd().name), OVERLOADS(cuda::name)
// For an op whose reference, a template over float and double, is fast enough.
#define PLAIN_KERNELS(name) OVERLOADS(cpu::name), OVERLOADS(cpu::name), OVERLOADS(cuda::name)

// Calls the kernel for x: the reference and the GPU's for all rows at once, the fast one for a part of them in each thread.
// C is the width of a row, and of the sums.
template <class Reference, class Fast, class Gpu, class... Args>
void by_rows(const char* op, const Tensor& x, int64_t N, int64_t C, Reference reference, Fast fast, Gpu gpu,
             const Args&... args) {
  const auto run = [&](int64_t begin, int64_t end, float* sum) {
    const auto part = [&]<class Arg>(const Arg& arg) {
      if constexpr (std::is_same_v<Arg, Tensor>) return rows_from(begin, N, arg);
      else if constexpr (std::is_same_v<Arg, PerRow>) return rows_from(begin, N, arg.tensor);
      else if constexpr (std::is_same_v<Arg, RowSum>) return std::exchange(sum, sum + C);
      else if constexpr (std::is_same_v<Arg, Count>) return end - begin;
      else return kernel_argument<float>(arg, Device::cpu);
    };
    std::apply(fast, std::tuple{part(args)...});  // braces keep the order of the sums
  };
  const auto on_cpu = [&]<class T>(T) {
    if constexpr (std::is_same_v<T, double>) {
      reference(kernel_argument<double>(args, Device::cpu)...);
    } else if constexpr ((std::is_same_v<Args, RowSum> || ...)) {
      std::vector<float*> sums;
      const auto collect = [&]<class Arg>(const Arg& arg) {
        if constexpr (std::is_same_v<Arg, RowSum>) sums.push_back(arg.template data<float>(Device::cpu));
      };
      (collect(args), ...);
      add_row_sums(sums, N, C, run);
    } else {
      parallel_for(N, row_grain(C), [&](int64_t begin, int64_t end) { run(begin, end, nullptr); });
    }
  };
  by_device(op, x, on_cpu, [&]<class T>(T) { gpu(kernel_argument<T>(args, Device::cuda)...); });
}

}  // namespace supra
