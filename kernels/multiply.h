#pragma once
#include "tensor/tensor.h"

// Products and sums of whole tensors, on the device of the tensors. All dimensions but the last are rows. `op` is the caller's
// name, for errors.

namespace supra {

namespace cuda {
struct Product;
}

// Operations fused to a product that does not accumulate: + bias (N), then max(0, c). On the GPU, without these:
// sums (M) = the sums of op(a)'s rows, in f32.
struct Epilogue {
  Tensor bias;
  bool relu = false;
  Tensor sums;
};

// c (M,N) = op(a) (M,K) op(b) (K,N), or += if `accumulate` is set; op(x) is x, or its transpose if tx is set.
//   CPU: all in f32, or all in f64
//   GPU: a in f32 or bf16; b (any dtype) and bias are converted to a's dtype, once per call, in a temporary copy;
//        c in a's dtype or in f32, which gradients of weights are summed in. f32 is f32 throughout, without TF32.
void multiply(const char* op, const Tensor& c, bool accumulate, const Tensor& a, bool ta, const Tensor& b, bool tb,
              const Epilogue& after = {});
// The same for a batch of matrices that lie within larger ones; only one matrix may have an epilogue.
void multiply(const char* op, const cuda::Product& p, const Tensor& c, bool accumulate, const Tensor& a, const Tensor& b,
              const Epilogue& after = {});

// y = max(0, y), in place
void rectify(const char* op, const Tensor& y);

// cap tanh(u); and the way back, dy *= cap tanh'(u), in place
Tensor capped(const char* op, const Tensor& u, double cap);
void through_cap(const char* op, const Tensor& dy, const Tensor& u, double cap);

// y (N,C): each row is `row` (C)
void repeat_row(const char* op, const Tensor& y, const Tensor& row);

// sums (C) += the sum over the rows of x (N,C), in a fixed order.   GPU: sums in f32
void add_rows(const char* op, const Tensor& sums, const Tensor& x);

}  // namespace supra
