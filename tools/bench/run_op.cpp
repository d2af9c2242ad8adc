#include <cmath>

#include "tensor/random.h"
#include "tools/bench/ops_table.h"

// Makes the inputs of a row of the table and runs it, for the tests and the bench.

namespace supra {

static float draw(Philox& random, Fill fill, const Shape& shape) {
  switch (fill) {
    case Fill::normal:
      return static_cast<float>(random.normal());
    case Fill::positive:
      return static_cast<float>(0.5 + random.uniform());
    case Fill::away_from_zero: {
      const double magnitude = 0.5 + random.uniform();
      return static_cast<float>(random.next() % 2 ? magnitude : -magnitude);
    }
    case Fill::log_decay:
      return static_cast<float>(random.uniform() - 1);
    case Fill::fraction:
      return static_cast<float>(random.uniform());
    case Fill::direction:
      return static_cast<float>(random.normal() / std::sqrt(static_cast<double>(shape.back())));
  }
  return 0;
}

static Tensor random_tensor(const Shape& shape, Fill fill, uint64_t stream, Dtype dtype) {
  Philox random(2024, stream);
  Tensor t = Tensor::empty(shape);
  float* x = t.data<float>();
  // large inputs repeat a pattern, because drawing all numbers would take longer than the operation
  const int64_t n = t.numel(), drawn = std::min<int64_t>(n, 1 << 18);
  for (int64_t i = 0; i < drawn; i++) x[i] = draw(random, fill, shape);
  for (int64_t i = drawn; i < n; i++) x[i] = x[i - drawn];
  return t.to(dtype);
}

std::vector<Tensor> make_inputs(const OpCase& op, Size size, Dtype dtype) {
  std::vector<Tensor> inputs;
  for (const OpInput& input : op.inputs) {
    const Shape& shape = size == Size::small ? input.small : size == Size::large ? input.large : input.bench;
    Tensor t = random_tensor(shape, input.fill, inputs.size(), input.stored == Dtype::f32 ? dtype : input.stored);
    // values that products do not round any further
    if (input.parameter && input.stored == Dtype::f32 && dtype == Dtype::bf16) t = t.to(Dtype::f32);
    inputs.push_back(t);
  }
  return inputs;
}

OpRun run_op(const OpCase& op, const std::vector<Tensor>& inputs, int passes, Dtype seeds_in) {
  Vars vars;
  for (size_t i = 0; i < inputs.size(); i++) vars.emplace_back(inputs[i], !op.inputs[i].constant);
  OpRun run;
  for (int pass = 0; pass < passes; pass++) {
    const Vars outputs = op.fn(vars);
    std::vector<Tensor> seeds;
    run.outputs.clear();
    for (const Var& y : outputs) {
      const Tensor seed = random_tensor(y.shape(), Fill::normal, 100 + seeds.size(), seeds_in);
      seeds.push_back(seed.to(y.dtype()).to(y.value().device()));
      run.outputs.push_back(y.value());
    }
    backward(outputs, seeds);
  }
  for (const Var& v : vars) run.grads.push_back(v.grad());
  return run;
}

}  // namespace supra
