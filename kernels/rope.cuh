#pragma once
#include "kernels/cuda.h"
#include "tensor/cuda.cuh"

// The rotation of RoPE (formula: rope.cpp), for the op and for kernels that rotate what they load and store. All round in the
// same way, so they give the same bits.

namespace supra::cuda {

// A rotated element. For the first of a pair, `partner` is the negated second.
__device__ inline float turned(float x, float partner, float c, float s) { return fmaf(x, c, partner * s); }

__device__ inline void turn_pair(float& a, float& b, float c, float s) {
  const float first = a;
  a = turned(first, -b, c, s);
  b = turned(b, first, c, s);
}

// The part of a tile that a thread takes: two pieces of eight columns of one row, which contain both elements of each pair.
template <int kColumns>
struct Pieces {
  static constexpr int kPairs = kColumns / 16;
  const int row = threadIdx.x / kPairs;
  int first, second;

  __device__ Pieces(const RopeTurn& turn, bool turns) {
    const int i = threadIdx.x % kPairs;
    const int apart = turns && !turn.interleaved ? static_cast<int>(turn.dims) / 16 : kPairs;
    first = 8 * (i < apart ? i : 2 * i);
    second = first + 8 * (i < apart ? apart : 1);
  }
};

// The angles of the eight pairs in two pieces. The elements of a pair are one in each piece (half), or neighbours
// (interleaved).
struct Angles {
  float c[8] = {}, s[8] = {};

  // cosine, sine: the angles of the row
  template <int kColumns>
  __device__ Angles(const RopeTurn& turn, const Pieces<kColumns>& at, const float* cosine, const float* sine) {
    if (!turn.interleaved) {
      if (at.first < turn.dims / 2) load(c, cosine + at.first), load(s, sine + at.first);
      return;
    }
#pragma unroll
    for (int e = 0; e < 8; e++) {
      const int column = (e < 4 ? at.first : at.second) + e % 4 * 2;
      if (column < turn.dims) c[e] = cosine[column], s[e] = sine[column];
    }
  }
  // direction: 1, or -1 to rotate back
  template <int kColumns>
  __device__ void turn(float (&a)[8], float (&b)[8], const RopeTurn& turn, const Pieces<kColumns>& at,
                       float direction) const {
    if (!turn.interleaved) {
      if (at.first >= turn.dims / 2) return;
#pragma unroll
      for (int e = 0; e < 8; e++) turn_pair(a[e], b[e], c[e], direction * s[e]);
      return;
    }
#pragma unroll
    for (int e = 0; e < 8; e += 2) {
      if (at.first + e < turn.dims) turn_pair(a[e], a[e + 1], c[e / 2], direction * s[e / 2]);
      if (at.second + e < turn.dims) turn_pair(b[e], b[e + 1], c[4 + e / 2], direction * s[4 + e / 2]);
    }
  }
};

// Two neighbours of a row of bf16, rotated. cosine, sine: the angles of the row.
__device__ inline uint32_t turned_pair(const Bf16* row, int column, const RopeTurn& turn, const float* cosine,
                                       const float* sine) {
  const uint32_t x = vector_at<const uint32_t>(row + column);
  if (column >= turn.dims) return x;
  float a = low_bf16(x), b = high_bf16(x);
  if (turn.interleaved) {
    turn_pair(a, b, cosine[column], sine[column]);
    return pack_bf16(a, b);
  }
  const int half = static_cast<int>(turn.dims / 2), angle = column % half;
  const float sign = column < half ? -1 : 1;
  const uint32_t y = vector_at<const uint32_t>(row + (column < half ? column + half : angle));
  return pack_bf16(turned(a, sign * low_bf16(y), cosine[angle], sine[angle]),
                   turned(b, sign * high_bf16(y), cosine[angle + 1], sine[angle + 1]));
}

}  // namespace supra::cuda
