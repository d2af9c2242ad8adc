#include "kernels/cuda.h"
#include "kernels/cuts.h"
#include "kernels/dispatch.h"
#include "kernels/ops.h"
#include "tensor/parallel.h"

// short_convolution: y_t = sum_{i<W} w_i * x_{t-i}, each channel by itself
//   x (B,T,C) and w (W,C) saved for backward  y (B,T,C)  state (B,W-1,C): x_{-W+1} ... x_{-1}.   dx, dstate: =   dw: +=
//   dx_{t-i} += w_i * dy_t,  dw_i += dy_t * x_{t-i};  dx_{t-i} of a step before the first is a row of dstate

namespace supra {
namespace {

struct Sizes {
  int64_t B, T, C, W;
  std::vector<std::vector<Segment>> documents;
};

// f(tap, row of y, row that it meets, whether that is a row of the state). A document behind a cut meets nothing before itself.
template <class F>
void for_taps(const Sizes& n, F f) {
  for (int64_t b = 0; b < n.B; b++) {
    for (const Segment& document : n.documents[b]) {
      for (int64_t t = document.begin; t < document.end; t++) {
        for (int64_t i = 0; i < n.W; i++) {
          const int64_t s = t - i;
          if (s >= document.begin) f(i, b * n.T + t, b * n.T + s, false);
          else if (document.begin == 0) f(i, b * n.T + t, b * (n.W - 1) + n.W - 1 + s, true);
        }
      }
    }
  }
}

// f(row of the new state, row that it is, whether of the old state), where there is one.
template <class F>
void for_kept(const Sizes& n, F f) {
  for (int64_t b = 0; b < n.B; b++) {
    const Segment last = n.documents[b].back();
    for (int64_t j = 0; j < n.W - 1; j++) {
      const int64_t s = last.end - (n.W - 1) + j;
      if (s >= last.begin) f(b * (n.W - 1) + j, b * n.T + s, false);
      else if (last.begin == 0) f(b * (n.W - 1) + j, b * (n.W - 1) + n.W - 1 + s, true);
    }
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

// The same for the GPU, with what the sizes point to.
struct SizesOnGpu {
  Tensor begin, last;
  cuda::ShortConvolutionSizes n;

  explicit SizesOnGpu(const Sizes& of) : n{of.B, of.T, of.C, of.W, nullptr, nullptr} {
    std::vector<int32_t> begins(of.B * of.T, static_cast<int32_t>(of.T)), lasts;
    bool whole = true;
    for (int64_t b = 0; b < of.B; b++) {
      for (const Segment& document : of.documents[b]) {
        std::fill_n(begins.begin() + b * of.T + document.begin, document.end - document.begin, static_cast<int32_t>(document.begin));
        whole = whole && document.begin == 0 && document.end == of.T;
      }
      const Segment& end = of.documents[b].back();
      lasts.insert(lasts.end(), {static_cast<int32_t>(end.begin), static_cast<int32_t>(end.end)});
    }
    // a recorded step has nothing to copy
    if (whole) return;
    begin = Tensor::of(begins).to(Device::cuda), last = Tensor::of(lasts).to(Device::cuda);
    n.begin = begin.data<int32_t>(Device::cuda), n.last = last.data<int32_t>(Device::cuda);
  }
};

constexpr Device gpu = Device::cuda;

}  // namespace

ShortConvolution short_convolution(const Var& x, const Var& w, const Var& state, const std::vector<int64_t>& lengths, const Cuts& cuts) {
  const char* op = "short_convolution";
  CHECK(x.value().rank() == 3 && w.value().rank() == 2, "%s: x is %s, w is %s, expected (B,T,C) and (W,C)", op, to_string(x.shape()).c_str(),
        to_string(w.shape()).c_str());
  Sizes n = {x.dim(0), x.dim(1), x.dim(2), w.dim(0), {}};
  check_shape(op, "w", w.shape(), {n.W, n.C});
  if (state.defined()) check_shape(op, "state", state.shape(), {n.B, n.W - 1, n.C});
  n.documents = segments(op, cuts, lengths.empty() ? std::vector<int64_t>(n.B, n.T) : lengths);
  const Tensor past = state.defined() ? state.value() : Tensor();
  const Tensor y = zeros_like(x.value()), next = Tensor::zeros({n.B, n.W - 1, n.C}, sum_dtype(x.dtype()), y.device());
  by_device(
      op, x.value(),
      [&]<class T>(T) { fwd(y.data<T>(), next.data<T>(), x.value().data<T>(), w.value().data<T>(), data_or_null<T>(past), n); },
      [&]<class T>(T) {
        cuda::short_convolution_fwd(y.data<T>(gpu), next.data<float>(gpu), x.value().data<T>(gpu), w.value().data<float>(gpu),
                                    data_or_null<float>(past, gpu), SizesOnGpu(n).n);
      });
  auto backward = [=, x = x.value(), w = w.value()](std::span<const Tensor> dy, Grads& grads) {
    const Tensor d_y = dy[0].defined() ? dy[0] : zeros_like(y), dnext = dy[1].defined() ? dy[1] : zeros_like(next);
    const Tensor dx = zeros_like(x), dstate = zeros_like(next), dw = grads.needs(1) ? grads.into(1) : Tensor();
    by_device(
        op, x,
        [&]<class T>(T) {
          bwd(dx.data<T>(), data_or_null<T>(dw), dstate.data<T>(), d_y.data<T>(), dnext.data<T>(), x.data<T>(), w.data<T>(),
              data_or_null<T>(past), n);
        },
        [&]<class T>(T) {
          cuda::short_convolution_bwd(dx.data<T>(gpu), data_or_null<float>(dw, gpu), dstate.data<float>(gpu), d_y.data<T>(gpu),
                                      dnext.data<float>(gpu), x.data<T>(gpu), w.data<float>(gpu), data_or_null<float>(past, gpu),
                                      SizesOnGpu(n).n);
        });
    grads.give(0, dx);
    grads.give(2, dstate);
  };
  const std::vector<Var> outputs = record_many(op, {x, w, state}, {y, next}, backward);
  return {outputs[0], outputs[1]};
}

}  // namespace supra
