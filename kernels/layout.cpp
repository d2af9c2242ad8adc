#include "kernels/dispatch.h"
#include "kernels/ops.h"
#include "tensor/parallel.h"

// Operations that move elements and compute nothing.   all gradients: =

namespace supra {
namespace {

// A block of columns of a matrix, in the middle of its wider rows.
template <class T>
struct Columns {
  T* data;
  int64_t stride;
};

// to (N,C) = from (N,C), or zeros where `from` is null
template <class T>
void copy_columns(Columns<T> to, Columns<const T> from, int64_t N, int64_t C) {
  parallel_for(N, row_grain(C), [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; row++) {
      T* out = to.data + row * to.stride;
      if (from.data)
        std::copy_n(from.data + row * from.stride, C, out);
      else
        std::fill_n(out, C, T(0));
    }
  });
}

int64_t last(const Tensor& t) { return t.dim(-1); }

// wide (N, sum of widths) = the parts side by side; an undefined part gives zeros
void join(const char* op, const Tensor& wide, std::span<const Tensor> parts,
          const std::vector<int64_t>& widths) {
  by_dtype(op, wide.dtype(), [&]<class T>(T) {
    T* out = wide.data<T>();
    for (size_t i = 0; i < parts.size(); out += widths[i++]) {
      copy_columns<T>({out, last(wide)}, {data_or_null<T>(parts[i]), widths[i]}, row_count(wide),
                      widths[i]);
    }
  });
}

std::vector<Tensor> split(const char* op, const Tensor& wide, const std::vector<int64_t>& widths) {
  std::vector<Tensor> parts;
  by_dtype(op, wide.dtype(), [&]<class T>(T) {
    const T* in = wide.data<T>();
    for (int64_t width : widths) {
      Shape shape = wide.shape();
      shape.back() = width;
      parts.push_back(Tensor::empty(shape, wide.dtype()));
      copy_columns<T>({parts.back().data<T>(), width}, {in, last(wide)}, row_count(wide), width);
      in += width;
    }
  });
  return parts;
}

}  // namespace

// The memory is shared.
Var reshape(const Var& x, Shape shape) {
  return record("reshape", {x}, x.value().view(std::move(shape)),
                [before = x.shape()](const Tensor& dy, Grads& grads) { grads.give(0, dy.view(before)); });
}

std::vector<Var> split_columns(const Var& x, const std::vector<int64_t>& widths) {
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
  const Tensor y = Tensor::empty(shape, parts[0].dtype());
  join("concat_columns", y, values, widths);
  return record("concat_columns", parts, y, [widths](const Tensor& dy, Grads& grads) {
    const std::vector<Tensor> slices = split("concat_columns", dy, widths);
    for (size_t i = 0; i < slices.size(); i++) grads.give(i, slices[i]);
  });
}

// Backward sums the `times` gradients of a head in order.
Var repeat_heads(const Var& x, int64_t times) {
  CHECK(x.value().rank() == 4 && times >= 1,
        "repeat_heads: input is %s, (B,T,G,K) and times >= 1 are needed, not %ld",
        to_string(x.shape()).c_str(), static_cast<long>(times));
  if (times == 1) return x;
  Shape shape = x.shape();
  shape[2] *= times;
  const int64_t K = shape[3], N = row_count(x.value());
  const Tensor y = Tensor::empty(shape, x.dtype());
  by_dtype("repeat_heads", x.dtype(), [&, in = x.value()]<class T>(T) {
    for (int64_t i = 0; i < times; i++) {
      copy_columns<T>({y.data<T>() + i * K, times * K}, {in.data<T>(), K}, N, K);
    }
  });
  return record("repeat_heads", {x}, y, [=, x = x.value()](const Tensor& dy, Grads& grads) {
    const Tensor dx = empty_like(x);
    by_dtype("repeat_heads", x.dtype(), [&]<class T>(T) {
      parallel_for(N, row_grain(times * K), [&](int64_t begin, int64_t end) {
        for (int64_t row = begin; row < end; row++) {
          T* sum = dx.data<T>() + row * K;
          const T* term = dy.data<T>() + row * times * K;
          std::copy_n(term, K, sum);
          for (int64_t i = 1; i < times; i++) {
            for (int64_t k = 0; k < K; k++) sum[k] += term[i * K + k];
          }
        }
      });
    });
    grads.give(0, dx);
  });
}

}  // namespace supra
