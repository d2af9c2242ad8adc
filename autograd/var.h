#pragma once
#include <algorithm>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "tensor/scoped.h"
#include "tensor/tensor.h"

// Define-by-run automatic differentiation. A Var is a tensor; one that requires a gradient also knows how it was made. An
// operation computes its output and records, beside it, a closure that turns the output's gradient into gradients of its inputs:
//
//   return record("relu", {x}, y, [y](const Tensor& dy, Grads& grads) { grads.give(0, relu_bwd(dy, y)); });
//
// backward() runs the closures from the last recorded to the first, without recursion: a graph may be a million nodes
// deep. Autograd knows no operation and no device.

namespace supra {

struct Node;

class Var {
 public:
  Var() = default;
  explicit Var(Tensor value, bool requires_grad = false);

  bool defined() const { return defined_; }
  const Tensor& value() const&;
  Tensor value() &&;
  Tensor grad() const;              // undefined before backward() reached this variable
  void clear_grad() const;
  // The gradient's buffer, made of zeros if there is none yet: backward() of the next batch adds to it. Throws Error
  // unless requires_grad().
  Tensor grad_buffer() const;
  bool requires_grad() const { return history_ != nullptr; }  // a leaf that was asked for, or anything computed from one
  Var detach() const;               // the same memory, with no history

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
  std::shared_ptr<History> history_;  // null where no gradient is required: such a variable costs no allocation
};

// What a backward closure writes to. Parameters accumulate (+=), activations are handed over (=).
class Grads {
 public:
  bool needs(size_t input) const;
  // Parameters: the buffer to add to, of the input's shape; zeros when nothing was added before. Where the input requires
  // no gradient, these two return memory that nobody reads.
  Tensor into(size_t input);
  // The same for who can write as well as add: where nothing was added before, the buffer is fresh, and no zeros are
  // written only to be read once.
  struct Sum {
    Tensor sum;
    bool add;
  };
  Sum add_or_write(size_t input);
  // Activations: takes the tensor over as the input's gradient, or adds it if there is one already.
  void give(size_t input, Tensor gradient);

 private:
  friend struct BackwardPass;
  explicit Grads(Node& node) : node_(node) {}
  Node& node_;
};

using Backward = std::function<void(const Tensor& dy, Grads& grads)>;
// With several outputs; dy[i] is undefined where output i was not used.
using BackwardMany = std::function<void(std::span<const Tensor> dy, Grads& grads)>;

// Turns recording off in this thread while it lives.
struct NoGrad : Scoped<bool> {
  NoGrad();
};

// A build for inference alone (SUPRA_INFERENCE) records nothing: a closure goes where it stands, and the compiler leaves
// out its code with all that only it calls.
#if defined(SUPRA_INFERENCE)
constexpr bool kRecords = false;
#else
constexpr bool kRecords = true;
#endif

bool recording();  // no NoGrad lives in this thread
inline bool grad_enabled() { return kRecords && recording(); }

// The inputs of an operation, not copied: {x, w}.
using VarList = std::initializer_list<std::reference_wrapper<const Var>>;

// True when record() of these inputs would keep the closure: lets an op skip what only its backward needs.
template <class Inputs = VarList>
bool will_record(const Inputs& inputs) {
  return grad_enabled() && std::any_of(inputs.begin(), inputs.end(), [](const Var& v) { return v.requires_grad(); });
}

// For operations without a backward: throws Error by name when an input requires a gradient, so that none is dropped in silence.
inline void refuse_gradient(const char* op, VarList inputs) {
  if (will_record(inputs)) fail("%s has no backward, and an input requires a gradient (use it under NoGrad)", op);
}

// Adds a node to the graph, whatever its inputs are.
std::vector<Var> record_node(const char* name, std::vector<Var> inputs, std::vector<Tensor> outputs, BackwardMany backward);

// Wraps an operation's outputs. Nothing is kept where gradients are off or no input requires one. `name` is a literal.
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

// Adds d(root)/d(leaf) to the gradient of every leaf that requires one. `seed` is the gradient of root, 1 for a scalar.
// Saved tensors are freed on the way, so a graph is good for one backward.
void backward(const Var& root, Tensor seed = {});
// Several roots at once (a loss and a state whose gradient came from the next segment).
void backward(const std::vector<Var>& roots, const std::vector<Tensor>& seeds);

// Runs fn without keeping what its backward needs, and runs it again in backward: memory for time. fn must be a pure
// function of `inputs` and of parameters; random numbers it draws must come from a generator it seeds itself.
Var checkpoint(const std::function<Var(const std::vector<Var>&)>& fn, const std::vector<Var>& inputs);
// With several outputs.
std::vector<Var> checkpoint_many(const std::function<std::vector<Var>(const std::vector<Var>&)>& fn, const std::vector<Var>& inputs);

}  // namespace supra
