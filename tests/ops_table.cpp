#include "tests/ops_table.h"

#include "tensor/random.h"

namespace supra {

const std::vector<OpCase>& ops_table() {
  static const std::vector<OpCase> table = {
      // rmsnorm
      {"rmsnorm",
       [](const Vars& in) -> Vars { return {rmsnorm(in[0], in[1], 1e-5)}; },
       {{"x", {2, 3, 5}, {3, 67, 263}}, {"w", {5}, {263}}}},
      {"rmsnorm_narrow",
       [](const Vars& in) -> Vars { return {rmsnorm(in[0], in[1], 1e-5)}; },
       {{"x", {4, 3}, {517, 3}}, {"w", {3}, {3}}}},
      {"rmsnorm_large_eps",
       [](const Vars& in) -> Vars { return {rmsnorm(in[0], in[1], 0.5)}; },
       {{"x", {4, 7}, {65, 768}}, {"w", {7}, {768}}}},
  };
  return table;
}

static float draw(Philox& random, Fill fill) {
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
  }
  return 0;
}

static Tensor random_tensor(const Shape& shape, Fill fill, uint64_t stream, Dtype dtype) {
  Philox random(2024, stream);
  Tensor t = Tensor::empty(shape);
  for (int64_t i = 0; i < t.numel(); i++) t.data<float>()[i] = draw(random, fill);
  return t.to(dtype);
}

std::vector<Tensor> make_inputs(const OpCase& op, Size size, Dtype dtype) {
  std::vector<Tensor> inputs;
  for (const OpInput& input : op.inputs) {
    inputs.push_back(
        random_tensor(size == Size::small ? input.small : input.large, input.fill, inputs.size(), dtype));
  }
  return inputs;
}

OpRun run_op(const OpCase& op, const std::vector<Tensor>& inputs, int passes) {
  Vars vars;
  for (size_t i = 0; i < inputs.size(); i++) vars.emplace_back(inputs[i], !op.inputs[i].constant);
  OpRun run;
  for (int pass = 0; pass < passes; pass++) {
    const Vars outputs = op.fn(vars);
    std::vector<Tensor> seeds;
    run.outputs.clear();
    for (const Var& y : outputs) {
      seeds.push_back(random_tensor(y.shape(), Fill::normal, 100 + seeds.size(), y.dtype()));
      run.outputs.push_back(y.value());
    }
    backward(outputs, seeds);
  }
  for (const Var& v : vars) run.grads.push_back(v.grad());
  return run;
}

}  // namespace supra
