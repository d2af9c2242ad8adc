#pragma once
#include <algorithm>

#include "kernels/cuda.h"
#include "kernels/cuts.h"
#include "kernels/dispatch.h"
#include "kernels/rope.h"

// What linear_attention.cpp and softmax_attention.cpp tell the GPU's kernels of their tensors and of the documents in their rows.

namespace supra {

// Linear attention: (documents,4) as LinearAttentionDocument has it; undefined where every row is one document of T steps.
inline Tensor documents_on_gpu(const Cuts& cuts, const std::vector<int64_t>& lengths, int64_t T) {
  CHECK(T < INT32_MAX, "linear_attention: rows of %ld steps, the GPU takes fewer than 2^31", static_cast<long>(T));
  const auto is_whole = [&](int64_t length) { return length == T; };
  if (cuts.empty() && std::all_of(lengths.begin(), lengths.end(), is_whole)) return {};
  std::vector<int32_t> all;
  const auto rows = segments("linear_attention", cuts, lengths);
  for (size_t b = 0; b < rows.size(); b++) {
    for (const Segment& s : rows[b]) {
      const int64_t stop = &s == &rows[b].back() ? T : s.end;
      for (int64_t x : {static_cast<int64_t>(b), s.begin, s.end, stop}) all.push_back(static_cast<int32_t>(x));
    }
  }
  return Tensor::of(all, {static_cast<int64_t>(all.size() / 4), 4}).to(Device::cuda);
}

// Of linear attention. `state`, `documents` and the angles may be undefined.
template <class T>
cuda::LinearAttentionInputs<T> inputs_on_gpu(const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& log_decay,
                                             const Tensor& state, const Tensor& documents, double scale,
                                             const RopeAngles& angles = {}, bool of_relu = false) {
  constexpr Device gpu = Device::cuda;
  const int64_t B = q.dim(0), H = q.dim(2), Gk = k.dim(2), Gv = v.dim(2), K = q.dim(3), V = v.dim(3);
  return {q.data<T>(gpu),
          k.data<T>(gpu),
          v.data<T>(gpu),
          log_decay.data<float>(gpu),
          data_or_null<float>(state, gpu),
          documents.defined() ? static_cast<cuda::LinearAttentionDocument*>(documents.raw(gpu)) : nullptr,
          documents.defined() ? documents.dim(0) : B,
          {B, q.dim(1), H, Gk, Gv, K, V, H * K, Gk * K, Gv * V, log_decay.rank() == 3, static_cast<float>(scale)},
          data_or_null<float>(angles.cosine, gpu),
          data_or_null<float>(angles.sine, gpu),
          angles.turn,
          of_relu};
}

// Softmax attention: the keys at which rows begin, and those at which the document of each step begins, where there are cuts.
struct KeysOnGpu {
  Tensor first, documents;

  KeysOnGpu(const std::vector<int64_t>& first_keys, const std::vector<std::vector<Segment>>& rows, int64_t T) {
    first = Tensor::of(std::vector<int32_t>(first_keys.begin(), first_keys.end())).to(Device::cuda);
    std::vector<int32_t> begins;
    for (size_t b = 0; b < rows.size(); b++) {
      for (const Segment& document : rows[b]) {
        begins.resize(static_cast<int64_t>(b) * T + document.end, static_cast<int32_t>(first_key(first_keys[b], document)));
        if (document.begin > 0) documents = first;
      }
    }
    if (documents.defined()) documents = Tensor::of(begins).to(Device::cuda);
  }
};

// Of softmax attention.
template <class T>
cuda::SoftmaxAttentionInputs<T> inputs_on_gpu(const Tensor& q, const Tensor& q_sinks, const Tensor& k, const Tensor& v,
                                              const Scores& scores, int64_t window, int64_t sinks, const KeysOnGpu& rows) {
  constexpr Device gpu = Device::cuda;
  return {q.data<T>(gpu), k.data<T>(gpu), v.data<T>(gpu), q_sinks.data<T>(gpu), rows.first.data<int32_t>(gpu),
          data_or_null<int32_t>(rows.documents, gpu),
          {q.dim(0), q.dim(1), q.dim(2), k.dim(1), k.dim(2), q.dim(3), v.dim(3), window, sinks,
           static_cast<float>(scores.inner()), static_cast<float>(scores.cap)}};
}

}  // namespace supra
