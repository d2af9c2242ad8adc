#pragma once
#include <memory>
#include <string>
#include <vector>

#include "nn/decoder.h"

namespace supra {

// A decoder of this shape with the mixers that its config names. Its parameters have shapes and no memory yet.
std::shared_ptr<Decoder> describe_decoder(const Config& config);

// This model with other mixers, or other windows, sinks or far features: it shares the parameters that both have, and has zeros
// in others. A config that is the same but for these.
std::shared_ptr<Decoder> with_mixers(Decoder& model, const Config& config);

// A tensor that a decoder needs, under its canonical name: OpenLM's, which checkpoints bear and nn's modules
// give their parameters.
struct Parameter {
  std::string name;
  Shape shape;
  // Rows of the matrices that are stacked in it: q, k and v in in_proj, gate and up in w12. Empty: it is one
  // matrix.
  std::vector<int64_t> parts;
};

std::vector<Parameter> parameters_of(const Config& config);

}  // namespace supra
