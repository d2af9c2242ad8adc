#include <algorithm>

#include "tools/bench/bench.h"

// supra bench kernels: every operation of the table, forward and backward, on random numbers.

namespace supra {
namespace {

double total_bytes(const std::vector<Tensor>& tensors) {
  double bytes = 0;
  for (const Tensor& t : tensors) bytes += static_cast<double>(t.bytes());
  return bytes;
}

// The elements that are read and written at least.
struct OpBytes {
  double inputs = 0, varied = 0, outputs = 0;  // varied: the inputs that get a gradient
};

Work forward_work(const OpCase& op, const std::vector<Tensor>& inputs, const OpBytes& bytes) {
  return {op.work.flop(inputs), op.work.moves == OpWork::Moves::rows ? bytes.outputs : bytes.inputs,
          bytes.outputs, op.work.one_core};
}

Work backward_work(const OpCase& op, const std::vector<Tensor>& inputs, const OpBytes& bytes) {
  const bool reads_inputs = op.work.moves == OpWork::Moves::all;
  return {op.work.backward * op.work.flop(inputs), bytes.outputs + (reads_inputs ? bytes.inputs : 0),
          bytes.varied, op.work.one_core};
}

bool has_gradient(const OpCase& op) {
  return std::any_of(op.inputs.begin(), op.inputs.end(),
                     [](const OpInput& input) { return !input.constant; });
}

bool has_backward(const OpCase& op) {
  return has_gradient(op) && op.work.moves != OpWork::Moves::nothing_in_back;
}

std::string forward_name(const OpCase& op) { return op.name + (has_gradient(op) ? "_fwd" : ""); }

}  // namespace

void bench_op(Bench& bench, const OpCase& op, Size size) {
  std::vector<Tensor> inputs = make_inputs(op, size, bench.options().dtype);
  for (Tensor& input : inputs) input = input.to(bench.options().device);
  OpBytes bytes = {.inputs = total_bytes(inputs)};
  Vars vars;
  for (size_t i = 0; i < inputs.size(); i++) {
    vars.emplace_back(inputs[i], !op.inputs[i].constant);
    if (!op.inputs[i].constant) bytes.varied += static_cast<double>(inputs[i].bytes());
  }
  const bool back = has_backward(op);
  std::vector<Tensor> seeds;
  for (const Var& y : op.fn(vars)) {
    seeds.push_back(Tensor::full(y.shape(), 0.5, y.dtype(), y.value().device()));
    bytes.outputs += static_cast<double>(y.value().bytes());
  }

  const std::vector<Timing> times = bench.repeat([&] {
    for (const Var& v : vars) v.clear_grad();
    Vars outputs;
    std::vector<double> seconds = {bench.seconds_of([&] { outputs = op.fn(vars); })};
    if (!back) return seconds;
    // this root passes the gradients on unchanged, like the next operation in a model
    const Var root = record_many("bench", outputs, {Tensor::zeros({1})}, [&](auto, Grads& grads) {
      for (size_t i = 0; i < seeds.size(); i++) grads.give(i, seeds[i]);
    })[0];
    outputs.clear();
    seconds.push_back(bench.seconds_of([&] { backward(root); }));
    return seconds;
  });
  bench.add(forward_name(op), times[0], forward_work(op, inputs, bytes));
  if (back) bench.add(op.name + "_bwd", times[1], backward_work(op, inputs, bytes));
}

std::vector<BenchJob> kernel_jobs(const BenchOptions& options) {
  std::vector<BenchJob> jobs;
  const auto add = [&](const std::vector<OpCase>& table) {
    for (const OpCase& op : table) {
      if (op.inputs[0].bench.empty()) continue;
      BenchJob job = {{forward_name(op)}, [&op](Bench& bench) { bench_op(bench, op, Size::bench); }};
      if (has_backward(op)) job.rows.push_back(op.name + "_bwd");
      jobs.push_back(std::move(job));
    }
  };
  if (options.device == Device::cuda) {
    add(gpu_table());
  } else {
    add(ops_table()), add(bench_table());
  }
  return jobs;
}

}  // namespace supra
