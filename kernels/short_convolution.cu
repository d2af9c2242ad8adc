#include "kernels/cuda.h"
#include "tensor/elements.cuh"
#include "tensor/tensor.h"

// The short convolution on the GPU: y_t = sum over i < W of w_i x_{t-i} (short_convolution.cpp)
//   x, y (B,T,C)  w (W,C)  state (B,W-1,C)
//
// A source is a step of x, or a step before the first, which is a row of the state. Row b has W - 1 + T sources. A thread takes
// a vector of channels of one step or source. Memory bounds it: the W reads of a source hit the caches.

namespace supra::cuda {

namespace {

constexpr int64_t kPieces = 256;  // pieces of the sum over steps, at most; the same on every GPU

struct Documents : ShortConvolutionSizes {
  // Sources of a row of the batch; 32 bits, so that a division by it is cheap.
  __device__ unsigned rows() const { return static_cast<unsigned>(T + W - 1); }
  // True if a document that begins at `begin` sees the source s.
  __device__ static bool sees(int64_t begin, int64_t s) { return s >= begin || begin == 0; }
  __device__ bool step_sees(int64_t b, int64_t t, int64_t s) const { return sees(begin ? begin[b * T + t] : 0, s); }
  // The next state has the sources before the end that the last document sees.
  __device__ bool keeps(int64_t b, int64_t s) const { return sees(last ? last[2 * b] : 0, s); }
  __device__ int64_t end(int64_t b) const { return last ? last[2 * b + 1] : T; }
  __device__ int64_t state_row(int64_t b, int64_t s) const { return (b * (W - 1) + W - 1 + s) * C; }
};

template <class T>
struct Sources {
  Documents n;
  const T* x;
  const float* state;

  template <int V>
  __device__ void get(float (&a)[V], int64_t b, int64_t s, int64_t c) const {
    if (s >= 0) return load(a, x + (b * n.T + s) * n.C + c);
    if (state) return load(a, state + n.state_row(b, s) + c);
    for (int e = 0; e < V; e++) a[e] = 0;
  }
};

template <class T>
struct Forward {
  Sources<T> sources;
  T* y;
  float* next;
  const float* w;
  template <int V>
  __device__ void at(unsigned row, int64_t c) const {
    const Documents& n = sources.n;
    const unsigned rows = n.rows();
    const int64_t b = row / rows, t = row % rows;
    float sum[V] = {}, a[V], tap[V];
    if (t >= n.T) {
      const int64_t j = t - n.T, s = n.end(b) - (n.W - 1) + j;
      if (n.keeps(b, s)) sources.get(sum, b, s, c);
      return store(next + (b * (n.W - 1) + j) * n.C + c, sum);
    }
    for (int i = 0; i < static_cast<int>(n.W); i++) {
      if (!n.step_sees(b, t, t - i)) continue;
      sources.get(a, b, t - i, c);
      load(tap, w + i * n.C + c);
      for (int e = 0; e < V; e++) sum[e] += tap[e] * a[e];
    }
    store(y + (b * n.T + t) * n.C + c, sum);
  }
};

template <class T>
struct Backward {
  Documents n;
  T* dx;
  float* dstate;
  const T* dy;
  const float *dnext, *w;
  template <int V>
  __device__ void at(unsigned row, int64_t c) const {
    const unsigned rows = n.rows();
    const int64_t b = row / rows, s = row % rows - (n.W - 1);
    float sum[V] = {}, a[V], tap[V];
    for (int64_t i = s < 0 ? -s : 0; i < n.W && s + i < n.T; i++) {
      if (!n.step_sees(b, s + i, s)) continue;
      load(a, dy + (b * n.T + s + i) * n.C + c);
      load(tap, w + i * n.C + c);
      for (int e = 0; e < V; e++) sum[e] += tap[e] * a[e];
    }
    const int64_t j = s - n.end(b) + n.W - 1;
    if (dnext && j >= 0 && j < n.W - 1 && n.keeps(b, s)) {
      load(a, dnext + (b * (n.W - 1) + j) * n.C + c);
      for (int e = 0; e < V; e++) sum[e] += a[e];
    }
    s < 0 ? store(dstate + n.state_row(b, s) + c, sum) : store(dx + (b * n.T + s) * n.C + c, sum);
  }
};

// Row p of partial (kPieces,W*C): the gradient of w, summed over the steps of piece p.
template <class T>
struct OfTaps {
  Sources<T> sources;
  float* partial;
  const T* dy;
  int64_t piece;
  template <int V>
  __device__ void at(unsigned p, int64_t column) const {
    const Documents& n = sources.n;
    const int64_t i = column / n.C, c = column % n.C, end = std::min((p + 1) * piece, n.B * n.T);
    float sum[V] = {}, a[V], d[V];
    for (int64_t row = p * piece; row < end; row++) {
      const int64_t b = row / n.T, t = row % n.T;
      if (!n.step_sees(b, t, t - i)) continue;
      sources.get(a, b, t - i, c);
      load(d, dy + row * n.C + c);
      for (int e = 0; e < V; e++) sum[e] += d[e] * a[e];
    }
    store(partial + p * n.W * n.C + column, sum);
  }
};

}  // namespace

template <class T>
void short_convolution_fwd(T* y, float* next, const T* x, const float* w, const float* state, const ShortConvolutionSizes& n) {
  constexpr int V = kVector<T>;
  each_element<V>(n.B * (n.T + n.W - 1), n.C, fits_vectors<V>(n.C, x, y) && fits_vectors(n.C, w, state, next),
                  Forward<T>{{{n}, x, state}, y, next, w});
}

template <class T>
void short_convolution_bwd(T* dx, float* dw, float* dstate, const T* dy, const float* dnext, const T* x, const float* w,
                           const float* state, const ShortConvolutionSizes& n) {
  constexpr int V = kVector<T>;
  const bool vectors = fits_vectors<V>(n.C, x, dx, dy) && fits_vectors(n.C, w, state, dstate, dnext);
  each_element<V>(n.B * (n.T + n.W - 1), n.C, vectors, Backward<T>{{n}, dx, dstate, dy, dnext, w});
  if (!dw || n.B * n.T == 0) return;
  const int64_t rows = n.B * n.T, piece = blocks(rows, kPieces), pieces = blocks(rows, piece);
  const Tensor memory = Tensor::empty({pieces, n.W * n.C}, Dtype::f32, Device::cuda);
  float* const partial = memory.data<float>(Device::cuda);
  each_element<V>(pieces, n.W * n.C, vectors, OfTaps<T>{{{n}, x, state}, partial, dy, piece});
  add_rows(dw, partial, pieces, n.W * n.C);
}

template decltype(short_convolution_fwd<float>) short_convolution_fwd<float>;
template decltype(short_convolution_fwd<Bf16>) short_convolution_fwd<Bf16>;
template decltype(short_convolution_bwd<float>) short_convolution_bwd<float>;
template decltype(short_convolution_bwd<Bf16>) short_convolution_bwd<Bf16>;

}  // namespace supra::cuda
