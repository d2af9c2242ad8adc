#include "autograd/var.h"

#include <algorithm>
#include <queue>
#include <utility>

namespace supra {

static thread_local bool recording_now = true;

// For a leaf its gradient; for any other variable the node that made it, and its number among the node's outputs.
struct Var::History {
  Tensor grad;
  std::shared_ptr<Node> maker;
  size_t output = 0;

  ~History();
};

struct Node {
  const char* name;
  uint64_t sequence;  // recording order: a node's inputs were made by nodes of smaller numbers
  std::vector<Var> inputs;
  std::vector<Tensor> grads;  // of the outputs, gathered during backward
  BackwardMany backward;
};

// The outermost destructor empties a list, so that a chain of a million nodes does not nest a million destructors.
Var::History::~History() {
  static thread_local std::vector<std::shared_ptr<Node>>* doomed = nullptr;
  if (!maker) return;
  if (doomed) {
    doomed->push_back(std::move(maker));
    return;
  }
  std::vector<std::shared_ptr<Node>> list;
  doomed = &list;
  list.push_back(std::move(maker));
  while (!list.empty()) {
    // the node is released here, and the histories of its inputs add their makers to the list
    const std::shared_ptr<Node> node = std::move(list.back());
    list.pop_back();
  }
  doomed = nullptr;
}

Var::Var(Tensor value, bool requires_grad) : value_(std::move(value)), defined_(true) {
  if (requires_grad) history_ = std::make_shared<History>();
}

const Tensor& Var::value() const& {
  CHECK(defined(), "a variable without a value was used");
  return value_;
}

Tensor Var::value() && {
  CHECK(defined(), "a variable without a value was used");
  return std::move(value_);
}

Tensor Var::grad() const { return history_ ? history_->grad : Tensor(); }

void Var::clear_grad() const {
  if (history_) history_->grad = {};
}

Var Var::detach() const { return Var(value()); }

bool recording() { return recording_now; }
NoGrad::NoGrad() : Scoped(recording_now, false) {}

struct BackwardPass {
  static const std::shared_ptr<Node>& maker(const Var& v) { return v.history_->maker; }

  static Var wrap(Tensor value, const std::shared_ptr<Node>& node, size_t output) {
    Var v(std::move(value), true);
    v.history_->maker = node;
    v.history_->output = output;
    return v;
  }

  // The sum of the gradients of v: in the leaf itself, or at the output of the node that made it.
  static Tensor& slot(const Var& v) {
    Var::History& history = *v.history_;
    return history.maker ? history.maker->grads[history.output] : history.grad;
  }

  static void add(const Var& v, Tensor gradient) {
    check_shape("backward", "gradient", gradient.shape(), v.shape());
    Tensor& sum = slot(v);
    if (!sum.defined()) {
      sum = std::move(gradient);
      return;
    }
    // an op may give one tensor to two inputs
    if (!sum.unique()) sum = sum.clone();
    add_into(sum, gradient);
  }

  static void run(const std::vector<Var>& roots, const std::vector<Tensor>& seeds) {
    using Shared = std::shared_ptr<Node>;
    auto later = [](const Shared& a, const Shared& b) { return a->sequence < b->sequence; };
    std::priority_queue<Shared, std::vector<Shared>, decltype(later)> ready(later);
    for (size_t i = 0; i < roots.size(); i++) {
      if (!seeds[i].defined()) continue;
      CHECK(roots[i].requires_grad(), "backward: the root depends on nothing that requires a gradient");
      // a copy, since gradients are summed in place
      add(roots[i], seeds[i].clone());
      if (maker(roots[i])) ready.push(maker(roots[i]));
    }
    while (!ready.empty()) {
      const Shared node = ready.top();
      // each consumer pushed the node
      while (!ready.empty() && ready.top() == node) ready.pop();
      // no consumer gave a gradient
      if (std::none_of(node->grads.begin(), node->grads.end(), [](const Tensor& g) { return g.defined(); })) continue;
      CHECK(node->backward, "backward: the graph behind %s was already used (compute it again)", node->name);
      Grads grads(*node);
      node->backward(node->grads, grads);
      // frees what was saved for this node now, not together with the loss
      node->backward = nullptr;
      for (Tensor& grad : node->grads) grad = {};
      for (const Var& input : std::exchange(node->inputs, {})) {
        if (input.requires_grad() && maker(input)) ready.push(maker(input));
      }
    }
  }
};

bool Grads::needs(size_t input) const { return node_.inputs[input].requires_grad(); }

Grads::Sum Grads::add_or_write(size_t input) {
  const Var& v = node_.inputs[input];
  if (!v.requires_grad()) return {empty_like(v.value()), false};
  Tensor& sum = BackwardPass::slot(v);
  const bool add = sum.defined();
  if (!add) sum = empty_like(v.value());
  else if (!sum.unique()) sum = sum.clone();
  return {sum, add};
}

Tensor Grads::into(size_t input) {
  const Sum sum = add_or_write(input);
  if (!sum.add) sum.sum.fill(0);
  return sum.sum;
}

void Grads::give(size_t input, Tensor gradient) {
  if (needs(input)) BackwardPass::add(node_.inputs[input], std::move(gradient));
}

static thread_local uint64_t next_sequence = 0;

std::vector<Var> record_node(const char* name, std::vector<Var> inputs, std::vector<Tensor> outputs, BackwardMany backward) {
  auto node = std::make_shared<Node>();
  node->name = name;
  node->sequence = next_sequence++;
  node->inputs = std::move(inputs);
  node->grads.resize(outputs.size());
  node->backward = std::move(backward);
  std::vector<Var> vars;
  for (size_t i = 0; i < outputs.size(); i++) vars.push_back(BackwardPass::wrap(std::move(outputs[i]), node, i));
  return vars;
}

void backward(const Var& root, Tensor seed) {
  if (!seed.defined()) {
    CHECK(root.numel() == 1, "backward: a root of shape %s needs a gradient to start from", to_string(root.shape()).c_str());
    seed = Tensor::full(root.shape(), 1, root.dtype(), root.value().device());
  }
  BackwardPass::run({root}, {seed});
}

void backward(const std::vector<Var>& roots, const std::vector<Tensor>& seeds) { BackwardPass::run(roots, seeds); }

std::vector<Var> checkpoint(const std::function<std::vector<Var>(const std::vector<Var>&)>& fn, const std::vector<Var>& inputs) {
  std::vector<Tensor> outputs;
  {
    NoGrad off;
    for (const Var& output : fn(inputs)) outputs.push_back(output.value());
  }
  // Parameters used inside fn get their gradients from the inner backward, so the node is kept even if no input requires one.
  std::vector<Var> all = inputs;
  all.emplace_back(Tensor::zeros({1}), true);
  return record_many("checkpoint", all, std::move(outputs), [fn, inputs](std::span<const Tensor> dy, Grads& grads) {
    std::vector<Var> again;
    for (const Var& input : inputs) again.emplace_back(input.value(), input.requires_grad());
    std::vector<Var> recomputed;
    {
      // recorded even if the caller wants no gradients
      const Scoped on(recording_now, true);
      recomputed = fn(again);
    }
    std::vector<Tensor> seeds;
    for (size_t i = 0; i < dy.size(); i++) seeds.push_back(recomputed[i].requires_grad() ? dy[i] : Tensor());
    backward(recomputed, seeds);
    for (size_t i = 0; i < inputs.size(); i++) {
      if (again[i].grad().defined()) grads.give(i, again[i].grad());
    }
  });
}

}  // namespace supra
