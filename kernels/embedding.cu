#include <cmath>

#include "kernels/cuda.h"
#include "tensor/stored.cuh"
#include "tensor/elements.cuh"

// Embedding on the GPU: y[n] = table[ids[n]], and sums of rows for its gradient (cuda_rows_by_id.h prepares these). y (N,C)
// table (O,C), dw (O,C) += . A thread takes a vector of a row. Memory bounds both: rows are read and written once, coalesced.

namespace supra::cuda {

namespace {

template <class T>
struct LookUp {
  T* y;
  const int32_t* ids;
  const uint8_t* table;
  Dtype dtype;
  int64_t O, C, row_bytes;
  template <int W>
  __device__ void at(unsigned row, int64_t i) const {
    const int32_t id = ids[row];
    float a[W];
    // ids that a kernel computed were not checked
    if (id < 0 || id >= O)
      for (float& e : a) e = NAN;
    else
      load_stored(a, table + id * row_bytes, dtype, i, C);
    store(y + row * C + i, a);
  }
};

template <class T>
struct SumRows {
  float *dw, *partial;
  const T* source;
  const int32_t *order, *begin, *target;
  int64_t C;
  template <int W>
  __device__ void at(unsigned piece, int64_t i) const {
    const int32_t to = target[piece];
    float* const out = to >= 0 ? dw + to * C + i : partial + (-1 - to) * C + i;
    float sum[W] = {}, term[W];
    for (int32_t row = begin[piece]; row < begin[piece + 1]; row++) {
      load(term, source + int64_t{order ? order[row] : row} * C + i);
      for (int e = 0; e < W; e++) sum[e] += term[e];
    }
    if (to >= 0) {
      load(term, out);
      for (int e = 0; e < W; e++) sum[e] += term[e];
    }
    store(out, sum);
  }
};

}  // namespace

template <class T>
void embedding_fwd(T* y, const int32_t* ids, const void* table, Dtype dtype, int64_t N, int64_t O, int64_t C) {
  constexpr int W = kVector<T>;
  const uint8_t* const rows = static_cast<const uint8_t*>(table);
  const int64_t bytes = static_cast<int64_t>(row_bytes(dtype, C));
  const bool vectors = fits_vectors<W>(C, y) && fits_vectors<16>(bytes, rows);
  each_element<W>(N, C, vectors, LookUp<T>{y, ids, rows, dtype, O, C, bytes});
}

template <class T>
void sum_rows(float* dw, float* partial, const T* source, const RowSums& sums, int64_t C) {
  constexpr int W = kVector<T>;
  each_element<W>(sums.pieces, C, fits_vectors<W>(C, dw, partial, source),
                  SumRows<T>{dw, partial, source, sums.order, sums.begin, sums.target, C});
}

template decltype(embedding_fwd<float>) embedding_fwd<float>;
template decltype(embedding_fwd<Bf16>) embedding_fwd<Bf16>;
template decltype(sum_rows<float>) sum_rows<float>;
template decltype(sum_rows<Bf16>) sum_rows<Bf16>;

}  // namespace supra::cuda
