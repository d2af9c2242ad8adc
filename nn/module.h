#pragma once
#include <functional>
#include <string>
#include <type_traits>
#include <vector>

#include "kernels/ops.h"
#include "nn/config.h"
#include "tensor/random.h"

// Modules own parameters and apply operations; they know no kernel. A parameter's name is the path that leads to it,
// in the spelling of OpenLM's checkpoints: layers.0.attention.in_proj.weight.

namespace supra {

struct Linear;

// What visit() calls, always in the same order: f(name, Var&) with every parameter, or f(path, Linear&) with every Linear.
class VisitParameters {
 public:
  template <class F>
  VisitParameters(F f) {
    if constexpr (std::is_invocable_v<F&, const std::string&, Var&>) parameter_ = std::move(f);
    else linear_ = std::move(f);
  }
  void operator()(const std::string& name, Var& parameter) const {
    if (parameter_) parameter_(name, parameter);
  }
  void operator()(const std::string& path, Linear& linear) const {
    if (linear_) linear_(path, linear);
  }

 private:
  std::function<void(const std::string& name, Var& parameter)> parameter_;
  std::function<void(const std::string& path, Linear& linear)> linear_;
};

// Whether a name contains what one of the patterns says; * matches anything.
bool name_matches(const std::string& name, const std::vector<std::string>& patterns);

// Fills with numbers that are uniform in +-bound.
void fill_uniform(const Tensor& t, double bound, Philox& random);

// A parameter that knows its shape; whoever fills it gives it memory (Decoder::allocate(), or a reader of weights).
Var make_parameter(Shape shape);

struct Linear {
  Var weight;  // (out, in)
  Var bias;    // (out), or undefined
  Var lora_a, lora_b;  // (rank, in) and (out, rank), or undefined: see Decoder::add_lora()
  double lora_scale = 0;

  Linear() = default;
  Linear(int64_t out, int64_t in, bool has_bias = false);
  Var operator()(const Var& x) const;
  Var relu(const Var& x, Slope slope) const;  // of what () gives, as linear_relu()
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
