#include "kernels/by_rows.h"
#include "kernels/ops.h"

// Operations that move elements and compute nothing.   all gradients: =

namespace supra {
namespace {

// Columns [first, first + C) of a matrix, in the middle of its wider rows; an undefined matrix is all zeros.
struct Columns {
  const Tensor& matrix;
  int64_t first = 0;

  int64_t stride() const { return matrix.defined() ? matrix.dim(-1) : 0; }
  template <class T>
  T* data(Device on) const {
    return matrix.defined() ? matrix.data<T>(on) + first : nullptr;
  }
};

}  // namespace

namespace cpu {

template <class T>
static void copy_columns(T* to, int64_t to_stride, const T* from, int64_t from_stride, int64_t N, int64_t C) {
  parallel_each(N, row_grain(C), [&](int64_t row) {
    if (from)
      std::copy_n(from + row * from_stride, C, to + row * to_stride);
    else
      std::fill_n(to + row * to_stride, C, T(0));
  });
}

// dx (N,K): of each row of dy (N,times*K) the sum of its parts, in order
template <class T>
static void sum_heads(T* dx, const T* dy, int64_t N, int64_t times, int64_t K) {
  for (int64_t row = 0; row < N; row++, dx += K, dy += times * K) {
    std::copy_n(dy, K, dx);
    for (int64_t i = 1; i < times; i++) {
      for (int64_t k = 0; k < K; k++) dx[k] += dy[i * K + k];
    }
  }
}

}  // namespace cpu

// C columns of all rows
static void copy_columns(const char* op, const Columns& to, const Columns& from, int64_t C) {
  by_device(op, to.matrix, OVERLOADS(cpu::copy_columns), OVERLOADS(cuda::copy_columns), to, to.stride(), from, from.stride(),
            row_count(to.matrix), C);
}

// wide (N, sum of widths) = the parts side by side; an undefined part gives zeros
static void join(const char* op, const Tensor& wide, std::span<const Tensor> parts, std::span<const int64_t> widths) {
  int64_t first = 0;
  for (size_t i = 0; i < parts.size(); first += widths[i++]) {
    copy_columns(op, {wide, first}, {parts[i]}, widths[i]);
  }
}

static std::vector<Tensor> split(const char* op, const Tensor& wide, std::span<const int64_t> widths) {
  std::vector<Tensor> parts;
  int64_t first = 0;
  for (int64_t width : widths) {
    Shape shape = wide.shape();
    shape.back() = width;
    parts.push_back(Tensor::empty(shape, wide.dtype(), wide.device()));
    copy_columns(op, {parts.back()}, {wide, first}, width);
    first += width;
  }
  return parts;
}

// The memory is shared.
Var reshape(const Var& x, Shape shape) {
  return record("reshape", {x}, x.value().view(std::move(shape)),
                [before = x.shape()](const Tensor& dy, Grads& grads) { grads.give(0, dy.view(before)); });
}

Var cast(const Var& x, Dtype dtype) {
  if (x.dtype() == dtype) return x;
  return record("cast", {x}, x.value().to(dtype),
                [before = x.dtype()](const Tensor& dy, Grads& grads) { grads.give(0, dy.to(before)); });
}

std::vector<Var> split_columns(const Var& x, const Shape& widths) {
  int64_t total = 0;
  for (int64_t width : widths) {
    CHECK(width >= 0, "split_columns: a part of %ld columns", static_cast<long>(width));
    total += width;
  }
  CHECK(total == x.dim(-1), "split_columns: the parts have %ld columns together, the input %s",
        static_cast<long>(total), to_string(x.shape()).c_str());
  auto backward = [x = x.value(), widths](std::span<const Tensor> dy, Grads& grads) {
    const Tensor dx = empty_like(x);
    join("split_columns", dx, dy, widths);
    grads.give(0, dx);
  };
  return record_many("split_columns", {x}, split("split_columns", x.value(), widths), backward);
}

Var concat_columns(const std::vector<Var>& parts) {
  CHECK(!parts.empty(), "concat_columns: no parts were given");
  Shape shape = parts[0].shape();
  shape.back() = 0;
  std::vector<Tensor> values;
  std::vector<int64_t> widths;
  for (const Var& part : parts) {
    values.push_back(part.value());
    widths.push_back(part.dim(-1));
    Shape expected = parts[0].shape();
    expected.back() = widths.back();
    check_shape("concat_columns", "a part", part.shape(), expected);
    shape.back() += widths.back();
  }
  const Tensor y = Tensor::empty(shape, parts[0].dtype(), parts[0].value().device());
  join("concat_columns", y, values, widths);
  return record("concat_columns", parts, y, [widths](const Tensor& dy, Grads& grads) {
    const std::vector<Tensor> slices = split("concat_columns", dy, widths);
    for (size_t i = 0; i < slices.size(); i++) grads.give(i, slices[i]);
  });
}

// Backward sums the `times` gradients of a head in order.
Var repeat_heads(const Var& x, int64_t times) {
  CHECK(x.value().rank() == 4 && times >= 1, "repeat_heads: input is %s, (B,T,G,K) and times >= 1 are needed, not %ld",
        to_string(x.shape()).c_str(), static_cast<long>(times));
  if (times == 1) return x;
  Shape shape = x.shape();
  shape[2] *= times;
  const int64_t K = shape[3], N = row_count(x.value());
  const Tensor y = Tensor::empty(shape, x.dtype(), x.value().device()), rows = y.view({N, times * K});
  for (int64_t i = 0; i < times; i++) copy_columns("repeat_heads", {rows, i * K}, {x.value()}, K);
  return record("repeat_heads", {x}, y, [=, x = x.value()](const Tensor& dy, Grads& grads) {
    const Tensor dx = empty_like(x);
    by_rows("repeat_heads", x, N, times * K, PLAIN_KERNELS(sum_heads), dx, dy, Count{N}, times, K);
    grads.give(0, dx);
  });
}

}  // namespace supra
