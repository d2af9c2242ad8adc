#pragma once
#include <functional>
#include <string>
#include <type_traits>
#include <vector>

#include "kernels/ops.h"
#include "nn/config.h"
#include "tensor/random.h"

// Modules own parameters and apply operations; they do not call kernels. The name of a parameter is its path, as in
// OpenLM's checkpoints: layers.0.attention.in_proj.weight.

namespace supra {

struct Linear;

// The callbacks of visit(): f(name, Var&) for each defined parameter, or f(path, Linear&) for each Linear, in a fixed order.
class VisitParameters {
 public:
  template <class F>
  VisitParameters(F f) {
    if constexpr (std::is_invocable_v<F&, const std::string&, Var&>) parameter_ = std::move(f);
    else linear_ = std::move(f);
  }
  void operator()(const std::string& name, Var& parameter) const {
    if (parameter_ && parameter.defined()) parameter_(name, parameter);
  }
  void operator()(const std::string& path, Linear& linear) const {
    if (linear_) linear_(path, linear);
  }

 private:
  std::function<void(const std::string& name, Var& parameter)> parameter_;
  std::function<void(const std::string& path, Linear& linear)> linear_;
};

// Whether a name contains a match of one of the patterns; * matches anything.
bool name_matches(const std::string& name, const std::vector<std::string>& patterns);

// Fills a tensor with uniform random numbers in +-bound.
void fill_uniform(const Tensor& t, double bound, Philox& random);

// A parameter with a shape but no memory. Decoder::allocate() or a reader of weights allocates it.
Var make_parameter(Shape shape);

struct Linear {
  Var weight;  // (out, in)
  Var bias;    // (out), or undefined
  Var lora_a, lora_b;  // (rank, in) and (out, rank), or undefined: see Decoder::add_lora()
  double lora_scale = 0;

  Linear() = default;
  Linear(int64_t out, int64_t in, bool has_bias = false);
  Var operator()(const Var& x) const;
  Var relu(const Var& x, Slope slope) const;  // relu of the product, see linear_relu()
  void visit(const std::string& path, const VisitParameters& f);
};

// RMSNorm or LayerNorm, with or without gain and bias; OpenLM has all of these variants.
struct Norm {
  NormConfig config;
  Var weight, bias;  // (C), or undefined

  Norm() = default;
  Norm(int64_t width, const NormConfig& config);
  Var operator()(const Var& x) const;
  void visit(const std::string& path, const VisitParameters& f);
};

// The MLP of a decoder layer. Its parameters have OpenLM's names, which depend on the kind.
class Mlp {
 public:
  Mlp() = default;
  explicit Mlp(const Config& config);
  Var operator()(const Var& x) const;
  void visit(const std::string& layer_path, const VisitParameters& f);

 private:
  MlpKind kind_ = MlpKind::swiglu;
  Gelu gelu_ = Gelu::erf;
  Linear in_, gate_, out_;  // gate_ is separate from in_ only in geglu
};

}  // namespace supra
