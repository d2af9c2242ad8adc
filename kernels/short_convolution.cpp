#include "kernels/cuda_short_convolution.h"
#include "kernels/dispatch.h"

// short_convolution: y_t = sum_{i<W} w_i * x_{t-i}, each channel by itself
//   x (B,T,C) and w (W,C) saved for backward  y (B,T,C)  state (B,W-1,C): x_{-W+1} ... x_{-1}.   dx, dstate: =   dw: +=
//   dx_{t-i} += w_i * dy_t,  dw_i += dy_t * x_{t-i};  dx_{t-i} of a step before the first is a row of dstate

namespace supra {
namespace {

struct Sizes {
  int64_t B, T, C, W;
  std::vector<std::vector<Segment>> documents;
};

// f(row, whether it is a row of the state) for step s of a document. A document after a cut has no steps before its first.
template <class F>
void for_row(const Sizes& n, int64_t b, Segment document, int64_t s, F f) {
  if (s >= document.begin)
    f(b * n.T + s, false);
  else if (document.begin == 0)
    f(b * (n.W - 1) + n.W - 1 + s, true);
}

// f(tap, row of y, row that the tap is multiplied with, whether that is a row of the state)
template <class F>
void for_taps(const Sizes& n, F f) {
  for (int64_t b = 0; b < n.B; b++) {
    for (const Segment& document : n.documents[b]) {
      for (int64_t t = document.begin; t < document.end; t++) {
        for (int64_t i = 0; i < n.W; i++)
          for_row(n, b, document, t - i, [&](int64_t from, bool past) { f(i, b * n.T + t, from, past); });
      }
    }
  }
}

// f(row of the new state, row that is kept there, whether that is a row of the old state)
template <class F>
void for_kept(const Sizes& n, F f) {
  for (int64_t b = 0; b < n.B; b++) {
    const Segment last = n.documents[b].back();
    for (int64_t j = 0; j < n.W - 1; j++)
      for_row(n, b, last, last.end - (n.W - 1) + j, [&](int64_t from, bool past) { f(b * (n.W - 1) + j, from, past); });
  }
}

template <class T>
void fwd(T* y, T* next, const T* x, const T* w, const T* state, const Sizes& n) {
  parallel_for(n.C, row_grain(n.B * n.T * n.W), [&](int64_t begin, int64_t end) {
    for_taps(n, [&](int64_t i, int64_t to, int64_t from, bool past) {
      const T* source = past ? state : x;
      for (int64_t c = begin; source && c < end; c++) y[to * n.C + c] += w[i * n.C + c] * source[from * n.C + c];
    });
    for_kept(n, [&](int64_t to, int64_t from, bool past) {
      const T* source = past ? state : x;
      for (int64_t c = begin; source && c < end; c++) next[to * n.C + c] = source[from * n.C + c];
    });
  });
}

template <class T>
void bwd(T* dx, T* dw, T* dstate, const T* dy, const T* dnext, const T* x, const T* w, const T* state, const Sizes& n) {
  parallel_for(n.C, row_grain(n.B * n.T * n.W), [&](int64_t begin, int64_t end) {
    for_taps(n, [&](int64_t i, int64_t to, int64_t from, bool past) {
      const T* source = past ? state : x;
      T* into = past ? dstate : dx;
      for (int64_t c = begin; c < end; c++) {
        into[from * n.C + c] += w[i * n.C + c] * dy[to * n.C + c];
        if (dw && source) dw[i * n.C + c] += dy[to * n.C + c] * source[from * n.C + c];
      }
    });
    for_kept(n, [&](int64_t to, int64_t from, bool past) {
      T* into = past ? dstate : dx;
      for (int64_t c = begin; c < end; c++) into[from * n.C + c] += dnext[to * n.C + c];
    });
  });
}

ConvolutionOnGpu on_gpu(const Sizes& n) { return {n.B, n.T, n.C, n.W, n.documents}; }

}  // namespace

ShortConvolution short_convolution(const Var& x, const Var& w, const Var& state, const std::vector<int64_t>& lengths,
                                   const Cuts& cuts) {
  const char* op = "short_convolution";
  CHECK(x.value().rank() == 3 && w.value().rank() == 2, "%s: x is %s, w is %s, expected (B,T,C) and (W,C)", op,
        to_string(x.shape()).c_str(), to_string(w.shape()).c_str());
  Sizes n = {x.dim(0), x.dim(1), x.dim(2), w.dim(0), {}};
  check_shape(op, "w", w.shape(), {n.W, n.C});
  if (state.defined()) check_shape(op, "state", state.shape(), {n.B, n.W - 1, n.C});
  n.documents = segments(op, cuts, lengths.empty() ? std::vector<int64_t>(n.B, n.T) : lengths);
  const Tensor past = state.defined() ? state.value() : Tensor();
  const Tensor y = zeros_like(x.value()), next = Tensor::zeros({n.B, n.W - 1, n.C}, sum_dtype(x.dtype()), y.device());
  by_device(
      op, y, [&](auto... args) { fwd(args..., n); },
      [&](auto... args) { cuda::short_convolution_fwd(args..., on_gpu(n).n); },
      y, Wide{next}, x.value(), Wide{w.value()}, Wide{past});
  auto backward = [=, x = x.value(), w = w.value()](std::span<const Tensor> dy, Grads& grads) {
    const Tensor d_y = dy[0].defined() ? dy[0] : zeros_like(y), dnext = dy[1].defined() ? dy[1] : zeros_like(next);
    const Tensor dx = zeros_like(x), dstate = zeros_like(next), dw = grads.needs(1) ? grads.into(1) : Tensor();
    by_device(
        op, x, [&](auto... args) { bwd(args..., n); },
        [&](auto... args) { cuda::short_convolution_bwd(args..., on_gpu(n).n); },
        dx, Wide{dw}, Wide{dstate}, d_y, Wide{dnext}, x, Wide{w}, Wide{past});
    grads.give(0, dx);
    grads.give(2, dstate);
  };
  const std::vector<Var> outputs = record_many(op, {x, w, state}, {y, next}, backward);
  return {outputs[0], outputs[1]};
}

}  // namespace supra
