#pragma once
#include "kernels/cuda_rope_tables.h"
#include "nn/decoder.h"
#include "tensor/cuda.h"

namespace supra {

// A decode step of B sequences on the GPU, recorded as a CUDA graph: the processor writes ids and angles and calls
// it, instead of every kernel in it. Only where a step does the same whatever its position: a KV cache grows, and
// learned positions are looked up. The decoder and its parameters stay where they are as long as this lives.
class StepGraph {
 public:
  StepGraph(const Decoder& decoder, int64_t batch) : decoder_(decoder), batch_(batch) {}

  // Why no graph can be made of this decoder's step; empty when one can.
  static std::string why_not(const Decoder& decoder);

  // One step of `state`, whose tensors are from then on those of the graph: logits (B,O), written anew by the next
  // step. The first time nothing is recorded, so that all that kernels prepare once is there when it is.
  Tensor step(std::span<const int32_t> ids, State& state);

  int64_t batch() const { return batch_; }
  // Why the recording failed, and steps go on without it; else empty.
  const std::string& trouble() const { return trouble_; }

 private:
  Tensor run(State& state);
  void adopt(State& state);
  void record();
  void lend(State& state) const;

  const Decoder& decoder_;
  int64_t batch_;
  Tensor ids_, logits_;  // (B,1)  (B,O)
  RopeTables angles_;
  std::vector<std::vector<Tensor>> parts_;  // of each layer's state
  std::unique_ptr<cuda::Graph> graph_;
  std::string trouble_;
};

}  // namespace supra
