#pragma once
#include <algorithm>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "tensor/scoped.h"
#include "tensor/tensor.h"

// Automatic differentiation on a graph that is built while the program runs. A Var is a tensor; if it requires a gradient, it
// also knows how it was computed. An operation computes its output and records a closure that computes the gradients of its inputs:
//
//   return record("relu", {x}, y, [y](const Tensor& dy, Grads& grads) { grads.give(0, relu_bwd(dy, y)); });
//
// backward() runs the closures in reverse order of recording, without recursion: a graph may be a million nodes
// deep. Autograd does not know any operation or device.

namespace supra {

struct Node;

class Var {
 public:
  Var() = default;
  explicit Var(Tensor value, bool requires_grad = false);

  bool defined() const { return defined_; }
  const Tensor& value() const&;
  Tensor value() &&;
  Tensor grad() const;              // undefined until backward() has reached this variable
  void clear_grad() const;
  bool requires_grad() const { return history_ != nullptr; }  // a leaf created with requires_grad, or anything computed from one
  Var detach() const;               // the same memory, without history

  const Shape& shape() const& { return value().shape(); }
  Shape shape() && { return value().shape(); }
  int64_t dim(int64_t i) const { return value().dim(i); }
  int64_t numel() const { return value().numel(); }
  Dtype dtype() const { return value().dtype(); }

 private:
  friend class Grads;
  friend struct BackwardPass;
  struct History;

  Tensor value_;
  bool defined_ = false;
  std::shared_ptr<History> history_;  // null if no gradient is required: such a variable needs no allocation
};

// Where a backward closure writes its results. Gradients of parameters are added (+=), those of activations are set (=).
class Grads {
 public:
  bool needs(size_t input) const;
  // For parameters: the buffer to add to, of the input's shape; zeros if nothing was added before. If the input requires
  // no gradient, into() and add_or_write() return memory that nobody reads.
  Tensor into(size_t input);
  // The same for a closure that can either write or add: if nothing was added before, the buffer is uninitialised and `add` is
  // false, which saves writing zeros.
  struct Sum {
    Tensor sum;
    bool add;
  };
  Sum add_or_write(size_t input);
  // The tensor becomes the input's gradient, or is added if there is one already.
  void give(size_t input, Tensor gradient);

 private:
  friend struct BackwardPass;
  explicit Grads(Node& node) : node_(node) {}
  Node& node_;
};

using Backward = std::function<void(const Tensor& dy, Grads& grads)>;
// For several outputs; dy[i] is undefined if output i was not used.
using BackwardMany = std::function<void(std::span<const Tensor> dy, Grads& grads)>;

// While this object lives, nothing is recorded in this thread.
struct NoGrad : Scoped<bool> {
  NoGrad();
};

// A build for inference alone (SUPRA_INFERENCE) records nothing. Closures are dropped unused, so the compiler leaves out their
// code and everything that only they call.
#if defined(SUPRA_INFERENCE)
constexpr bool kRecords = false;
#else
constexpr bool kRecords = true;
#endif

bool recording();  // true unless a NoGrad lives in this thread
inline bool grad_enabled() { return kRecords && recording(); }

// The inputs of an operation, not copied: {x, w}.
using VarList = std::initializer_list<std::reference_wrapper<const Var>>;

// Whether record() would keep the closure for these inputs. If not, an op can skip what only its backward needs.
template <class Inputs = VarList>
bool will_record(const Inputs& inputs) {
  return grad_enabled() && std::any_of(inputs.begin(), inputs.end(), [](const Var& v) { return v.requires_grad(); });
}

// For operations without a backward: throws Error if an input requires a gradient, so that no gradient is lost silently.
inline void refuse_gradient(const char* op, VarList inputs) {
  if (will_record(inputs)) fail("%s has no backward, and an input requires a gradient (use it under NoGrad)", op);
}

// Adds a node to the graph, even if no input requires a gradient.
std::vector<Var> record_node(const char* name, std::vector<Var> inputs, std::vector<Tensor> outputs, BackwardMany backward);

// Wraps an operation's outputs. Records nothing if gradients are off or no input requires one. `name` is a string literal.
template <class Inputs = VarList, class Closure>
std::vector<Var> record_many(const char* name, const Inputs& inputs, std::vector<Tensor> outputs, Closure&& backward) {
  if constexpr (kRecords) {
    if (will_record(inputs)) {
      return record_node(name, {inputs.begin(), inputs.end()}, std::move(outputs), std::forward<Closure>(backward));
    }
  }
  return {outputs.begin(), outputs.end()};
}

// The same with one output.
template <class Inputs = VarList, class Closure>
Var record(const char* name, const Inputs& inputs, Tensor output, Closure&& backward) {
  if constexpr (kRecords) {
    if (will_record(inputs)) {
      return record_node(name, {inputs.begin(), inputs.end()}, {std::move(output)},
                         [f = Backward(std::forward<Closure>(backward))](std::span<const Tensor> dy, Grads& grads) {
                           f(dy[0], grads);
                         })[0];
    }
  }
  return Var(std::move(output));
}

// Adds d(root)/d(leaf) to the gradient of every leaf that requires one. `seed` is the gradient of root; by default 1, for a
// scalar. Saved tensors are freed on the way, so a graph can be used for one backward only.
void backward(const Var& root, Tensor seed = {});
// Several roots at once (a loss and a state whose gradient came from the next segment).
void backward(const std::vector<Var>& roots, const std::vector<Tensor>& seeds);

// Activation checkpointing: runs fn without storing what its backward needs, and runs it again in backward. This saves memory and
// costs time. fn must depend only on `inputs` and on parameters, and must seed the random generators that it uses.
std::vector<Var> checkpoint(const std::function<std::vector<Var>(const std::vector<Var>&)>& fn, const std::vector<Var>& inputs);

}  // namespace supra
