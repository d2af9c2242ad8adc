#pragma once
#include "kernels/cuda_rope_tables.h"
#include "nn/decoder.h"
#include "tensor/cuda.h"

namespace supra {

// A decoding step of B sequences on the GPU, recorded as a CUDA graph: the CPU writes ids and angles and launches the
// graph instead of each kernel. This needs a step that is the same at every position; a KV cache grows, and learned
// positions are looked up. The decoder and its parameters must stay in place as long as this object lives.
class StepGraph {
 public:
  StepGraph(const Decoder& decoder, int64_t batch) : decoder_(decoder), batch_(batch) {}

  // False if SUPRA_GRAPH=off is in the environment.
  static bool wanted();
  // Why this decoder's step cannot be recorded; empty if it can.
  static std::string why_not(const Decoder& decoder);

  // One step of `state`, whose tensors then belong to the graph. Returns logits (B,O), which the next step overwrites.
  // The first step is not recorded, so that kernels have prepared everything that they prepare only once.
  Tensor step(std::span<const int32_t> ids, State& state);

  int64_t batch() const { return batch_; }
  // Why recording failed, so that steps run without it; otherwise empty.
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
