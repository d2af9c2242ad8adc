#pragma once
#include <algorithm>

#include "kernels/cuda.h"
#include "kernels/cuda_rope_tables.h"
#include "kernels/cuts.h"
#include "kernels/dispatch.h"
#include "kernels/softmax_attention.h"
#include "kernels/state_attention.h"

// How state_attention.cpp, softmax_attention.cpp and window_step.cpp call the GPU kernels: tensors, and documents in rows.

namespace supra {

// False in a build for inference alone, which so leaves out the code for a GPU.
inline bool is_on_gpu([[maybe_unused]] const Tensor& x) {
#if defined(SUPRA_INFERENCE)
  return false;
#else
  return x.device() == Device::cuda;
#endif
}

// (documents,4) in the layout of LinearAttentionDocument; undefined if every row is one document of T steps.
inline Tensor documents_on_gpu(const StateCall& c) {
  CHECK(c.T < INT32_MAX, "%s: rows of %ld steps, the GPU takes fewer than 2^31", c.op, static_cast<long>(c.T));
  const auto is_whole = [&](int64_t length) { return length == c.T; };
  if (c.cuts.empty() && std::all_of(c.lengths.begin(), c.lengths.end(), is_whole)) return {};
  std::vector<int32_t> all;
  const auto rows = segments(c.op, c.cuts, c.lengths);
  for (size_t b = 0; b < rows.size(); b++) {
    for (const Segment& s : rows[b]) {
      const int64_t stop = &s == &rows[b].back() ? c.T : s.end;
      for (int64_t x : {static_cast<int64_t>(b), s.begin, s.end, stop}) all.push_back(static_cast<int32_t>(x));
    }
  }
  return Tensor::of(all, {static_cast<int64_t>(all.size() / 4), 4}).to(Device::cuda);
}

template <class T>
cuda::LinearAttentionInputs<T> inputs_on_gpu(const StateCall& c) {
  constexpr Device gpu = Device::cuda;
  return {c.q.data<T>(gpu),
          c.k.data<T>(gpu),
          c.v.data<T>(gpu),
          c.log_decay.data<float>(gpu),
          data_or_null<float>(c.state, gpu),
          c.documents.defined() ? static_cast<cuda::LinearAttentionDocument*>(c.documents.raw(gpu)) : nullptr,
          c.documents.defined() ? c.documents.dim(0) : c.B,
          {c.B, c.T, c.H, c.Gk, c.Gv, c.K, c.V, c.H * c.K, c.Gk * c.K, c.Gv * c.V, c.decay_by_token(),
           static_cast<float>(c.scale)},
          data_or_null<float>(c.angles.cosine, gpu),
          data_or_null<float>(c.angles.sine, gpu),
          c.angles.turn,
          c.of_relu};
}

// Whether the kernels can apply the features themselves. If so, the call gets what they need for it.
inline bool fuse_features(StateCall& c, const Features& features) {
  if (!is_on_gpu(c.q) || c.q.dtype() != Dtype::bf16) return false;
  if (features.rope.layout != Rope::Layout::none)
    c.angles = rope_angles(c.q.shape(), Dtype::f32, Device::cuda, features.rope, features.first, c.cuts, 1);
  c.of_relu = features.of_relu;
  return cuda::linear_attention_fuses(inputs_on_gpu<Bf16>(c));
}

namespace cuda {

template <class T>
void state_attention_fwd(const StateCall& c) {
  constexpr Device gpu = Device::cuda;
  T* const o = c.o.data<T>(gpu);
  float* const last = c.last.data<float>(gpu);
  if (c.beta.defined()) delta_attention_fwd(o, c.errors.data<T>(gpu), last, inputs_on_gpu<T>(c), c.beta.data<float>(gpu));
  else linear_attention_fwd(o, data_or_null<float>(c.rstd, gpu), last, inputs_on_gpu<T>(c), c.norm_eps);
}

template <class T>
void state_attention_bwd(const StateCallGrads& d, const Tensor& d_o, const Tensor& d_last, const StateCall& c) {
  constexpr Device gpu = Device::cuda;
  const LinearAttentionGrads<T> grads = {d.dq.data<T>(gpu), d.dk.data<T>(gpu), d.dv.data<T>(gpu),
                                         data_or_null<float>(d.dstate, gpu), data_or_null<float>(d.dlog_decay, gpu)};
  const T* const dy = d_o.data<T>(gpu);
  const float *const of_last = data_or_null<float>(d_last, gpu), *const last = c.last.data<float>(gpu);
  if (c.beta.defined())
    delta_attention_bwd(grads, d.dbeta.data<float>(gpu), dy, of_last, c.errors.data<T>(gpu), last, inputs_on_gpu<T>(c),
                        c.beta.data<float>(gpu));
  else
    linear_attention_bwd(grads, dy, of_last, c.o.data<T>(gpu), data_or_null<float>(c.rstd, gpu), last, inputs_on_gpu<T>(c));
}

template <class T>
void state_attention_step(const Tensor& o, const Tensor& state, const StateCall& c, int64_t sharing) {
  constexpr Device gpu = Device::cuda;
  T* const y = o.data<T>(gpu);
  float* const S = state.data<float>(gpu);
  if (c.beta.defined()) delta_attention_step(y, S, inputs_on_gpu<T>(c), c.beta.data<float>(gpu));
  else linear_attention_step(y, S, inputs_on_gpu<T>(c), sharing);
}

}  // namespace cuda

// window_step.cpp
inline void window_step_on_gpu(const WindowStep& step, const Ring& ring, const Tensor& q, const Tensor& q_sinks,
                               const Tensor& k, const Tensor& v, const std::vector<int64_t>& positions,
                               const cuda::WindowStepSizes& n) {
  by_device("window_step", q, [](auto) {}, [&]<class T>(T) {
    constexpr Device gpu = Device::cuda;
    const Tensor there = positions_on_gpu(positions);
    cuda::window_step(step.o.data<T>(gpu), step.lse.data<float>(gpu), data_or_null<T>(step.old_k, gpu),
                      data_or_null<T>(step.old_v, gpu), ring.k.data<T>(gpu), ring.v.data<T>(gpu), q.data<T>(gpu),
                      q_sinks.data<T>(gpu), k.data<T>(gpu), v.data<T>(gpu), there.data<int32_t>(gpu), n);
  });
}

// The first key of each row, and the first key of each step's document if there are cuts.
struct KeysOnGpu {
  Tensor first, documents;

  explicit KeysOnGpu(const SoftmaxCall& c) {
    first = Tensor::of(std::vector<int32_t>(c.first.begin(), c.first.end())).to(Device::cuda);
    std::vector<int32_t> begins;
    for (size_t b = 0; b < c.documents.size(); b++) {
      for (const Segment& document : c.documents[b]) {
        begins.resize(static_cast<int64_t>(b) * c.T + document.end, static_cast<int32_t>(first_key(c.first[b], document)));
        if (document.begin > 0) documents = first;
      }
    }
    if (documents.defined()) documents = Tensor::of(begins).to(Device::cuda);
  }
};

template <class T>
cuda::SoftmaxAttentionInputs<T> inputs_on_gpu(const SoftmaxCall& c, const KeysOnGpu& keys) {
  constexpr Device gpu = Device::cuda;
  return {c.q.data<T>(gpu), c.k.data<T>(gpu), c.v.data<T>(gpu), c.q_sinks.data<T>(gpu), keys.first.data<int32_t>(gpu),
          data_or_null<int32_t>(keys.documents, gpu),
          {c.B, c.T, c.H, c.S, c.G, c.K, c.V, c.window, c.sinks, static_cast<float>(c.scores.inner()),
           static_cast<float>(c.scores.cap)}};
}

namespace cuda {

template <class T>
void softmax_attention_fwd(const SoftmaxCall& c) {
  constexpr Device gpu = Device::cuda;
  const KeysOnGpu keys(c);
  softmax_attention_fwd(c.o.data<T>(gpu), c.lse.data<float>(gpu), inputs_on_gpu<T>(c, keys));
}

template <class T>
void softmax_attention_bwd(const SoftmaxCallGrads& d, const SoftmaxCall& c) {
  constexpr Device gpu = Device::cuda;
  const KeysOnGpu keys(c);
  softmax_attention_bwd(d.dq.data<T>(gpu), data_or_null<T>(d.dq_sinks, gpu), d.dk.data<T>(gpu), d.dv.data<T>(gpu),
                        d.d_o.data<T>(gpu), data_or_null<float>(d.dlse, gpu), c.o.data<T>(gpu), c.lse.data<float>(gpu),
                        inputs_on_gpu<T>(c, keys));
}

}  // namespace cuda
}  // namespace supra
