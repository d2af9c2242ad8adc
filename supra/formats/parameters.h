#pragma once
#include <memory>
#include <string>
#include <vector>

#include "nn/decoder.h"

namespace supra {

// A decoder with the shape and mixers of the config. Its parameters have shapes but no memory.
std::shared_ptr<Decoder> describe_decoder(const Config& config);

// The model with another config, which differs only in mixers, windows, sinks or far features. Parameters that both have are
// shared, others are zeros.
std::shared_ptr<Decoder> with_mixers(Decoder& model, const Config& config);

// A tensor of a decoder under its canonical name. Canonical names are OpenLM's; checkpoints and nn's modules use them.
struct Parameter {
  std::string name;
  Shape shape;
  // The rows of each matrix stacked in it: q, k and v in in_proj, gate and up in w12. Empty: it is one matrix.
  std::vector<int64_t> parts;
};

std::vector<Parameter> parameters_of(const Config& config);

}  // namespace supra
