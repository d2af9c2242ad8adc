#include "kernels/cuda.h"
#include "kernels/rope.cuh"
#include "tensor/elements.cuh"

// RoPE on the GPU: y_a = x_a cos -+ x_b sin for an element a and its partner b (rope.cpp). x, y (N,H,K), angles from a table of
// f32 (RopeTurn in cuda.h says where). A thread takes a vector of a head, and reads the partners too. Memory bounds it.

namespace supra::cuda {

namespace {

// A row is a head.
template <class T>
struct Rotate {
  T* y;
  const T* x;
  const float *cosine, *sine;
  RopeTurn turn;
  template <int W>
  __device__ void at(unsigned row, int64_t i) const {
    const T* const head = x + row * turn.K;
    float a[W], b[W], c[W], s[W];
    load(a, head + i);
    if (i < turn.dims) {
      const int64_t half = turn.dims / 2;
      const bool first = turn.interleaved ? i % 2 == 0 : i < half;
      if (!turn.interleaved)
        load(b, head + (first ? i + half : i - half));
      else if (W == 1)
        b[0] = to_float(head[i ^ 1]);
      else
        for (int e = 0; e < W; e++) b[e] = a[e ^ 1];
      const unsigned heads = static_cast<unsigned>(turn.H), n = row / heads;
      const int64_t angle = n % static_cast<unsigned>(turn.period) * turn.width + row % heads * turn.head_step +
                            (turn.interleaved || first ? i : i - half);
      load(c, cosine + angle), load(s, sine + angle);
      for (int e = 0; e < W; e++) {
        const bool minus = (turn.interleaved ? (i + e) % 2 == 0 : first) == (turn.direction > 0);
        a[e] = turned(a[e], minus ? -b[e] : b[e], c[e], s[e]);
      }
    }
    store(y + row * turn.K + i, a);
  }
};

}  // namespace

template <class T>
void rope(T* y, const T* x, const float* cosine, const float* sine, const RopeTurn& turn) {
  constexpr int W = kVector<T>;
  const bool vectors = fits_vectors<W>(turn.K | turn.dims / 2 | turn.width | turn.head_step, y, x) &&
                       fits_vectors<W>(0, cosine, sine);
  each_element<W>(turn.N * turn.H, turn.K, vectors, Rotate<T>{y, x, cosine, sine, turn});
}

template decltype(rope<float>) rope<float>;
template decltype(rope<Bf16>) rope<Bf16>;

}  // namespace supra::cuda
