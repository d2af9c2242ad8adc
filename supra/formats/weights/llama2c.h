#pragma once
#include "supra/formats/parse/byte_reader.h"
#include "supra/formats/weights/weights.h"

// The checkpoints of github.com/karpathy/llama2.c: a Llama-2 model in one file.
//   v0  7 int32 (dim, hidden, layers, heads, kv heads, vocab, context; vocab is negative if the classifier is not tied), then
//       f32: tok_emb, and each for all layers: att_norm, wq, wk, wv, wo, ffn_norm, w1, w2, w3; then final_norm, two rotary
//       tables [context, head/2], which are not used, and wcls if it is not tied
//   v1  magic "ak42", int32 1, the 7 int32, a byte "tied", zeros up to byte 256, then f32: att_norm, ffn_norm, final_norm,
//       tok_emb, wq, wk, wv, wo, w1, w2, w3, wcls
//   v2  as v1, with version 2 and int32 group_size after the byte; norms in f32, then in the order of v1 each matrix as
//       int8 q[n] and f32 scale[n/group_size]: w = q * scale of its group
// Rotary pairs are neighbours (2i, 2i+1). Tensors have Meta's names: layers.0.attention.wq.weight.

namespace supra {

struct Llama2cHeader {
  int version = 0;
  int64_t dim = 0, hidden = 0, layers = 0, heads = 0, kv_heads = 0, vocab = 0, context = 0;
  bool tied = true;
  int64_t group_size = 0;  // only v2
};

class Llama2c : public WeightReader {
 public:
  // Maps the file. Throws Error if its size is not exactly what the header says.
  explicit Llama2c(const Path& path);

  const Llama2cHeader& header() const { return header_; }

 protected:
  Tensor read(size_t index) const override;  // matrices of v2 become f32

 private:
  void read_header();
  void lay_out();
  void place(const std::string& name, Shape shape, bool quantised);

  MappedFile file_;
  std::string where_;
  ByteReader in_;
  Llama2cHeader header_;
  std::vector<uint64_t> offsets_;
};

}  // namespace supra
