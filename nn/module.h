#pragma once
#include <functional>
#include <string>

#include "kernels/ops.h"
#include "nn/config.h"

// Modules own parameters and apply operations; they know no kernel. A parameter's name is the path that leads to it,
// in the spelling of OpenLM's checkpoints: layers.0.attention.in_proj.weight.

namespace supra {

// Called with every parameter's name and variable, always in the same order.
using VisitParameters = std::function<void(const std::string& name, Var& parameter)>;

// A parameter that knows its shape; whoever fills it gives it memory (Decoder::allocate(), or a reader of weights).
Var make_parameter(Shape shape);

struct Linear {
  Var weight;  // (out, in)
  Var bias;    // (out), or undefined

  Linear() = default;
  Linear(int64_t out, int64_t in, bool has_bias = false);
  Var operator()(const Var& x) const { return linear(x, weight, bias); }
  void visit(const std::string& path, const VisitParameters& f);
};

// RMSNorm or LayerNorm, with or without gain and bias: OpenLM's variants are all of these.
struct Norm {
  NormConfig config;
  Var weight, bias;  // (C), or undefined

  Norm() = default;
  Norm(int64_t width, const NormConfig& config);
  Var operator()(const Var& x) const;
  void visit(const std::string& path, const VisitParameters& f);
};

// The MLP of a decoder layer; its parameters carry OpenLM's names, which differ by kind.
class Mlp {
 public:
  Mlp() = default;
  explicit Mlp(const Config& config);
  Var operator()(const Var& x) const;
  void visit(const std::string& layer_path, const VisitParameters& f);

 private:
  MlpKind kind_ = MlpKind::swiglu;
  Gelu gelu_ = Gelu::erf;
  Linear in_, gate_, out_;  // gate_ stands apart from in_ only in geglu
};

}  // namespace supra
