#pragma once
#include <functional>
#include <string>
#include <vector>

#include "kernels/ops.h"

// Every operation, with one row per case. tests/kernels/ops_test.cpp runs all its tests from a row, and the bench its
// timings. To add an operation, add a row to ops_table.cpp (ops_table_attention.cpp).

namespace supra {

using Vars = std::vector<Var>;

enum class Fill {
  normal,
  positive,        // [0.5, 1.5)
  away_from_zero,  // the same with a random sign, so that a step of gradcheck does not cross a kink at zero
  log_decay,       // [-1, 0)
  fraction,        // [0, 1)
  direction        // normal, divided by the root of the last dimension: rows of length about 1
};

struct OpInput {
  const char* name;
  Shape small;  // gradcheck needs two runs per element: a few dozen elements in all
  Shape large;  // odd sizes larger than a vector, a block and a thread's share
  Shape bench;  // as in practice; if memory is the limit, far beyond the caches
  Fill fill = Fill::normal;
  bool constant = false;      // no gradient is computed
  Dtype stored = Dtype::f32;  // for the bench, a constant may have another dtype
  bool parameter = false;     // stays f32 beside activations in bf16
};

// The least work of an operation, to which the bench compares its time. Bytes are counted by its tensors, each
// read or written once.
struct OpWork {
  enum class Moves {
    all,             // forward reads the inputs; backward reads them and the gradient of the outputs
    gradient,        // the same, but backward reads only that gradient
    rows,            // forward reads as much as it writes: rows of a table
    nothing_in_back  // backward passes its gradient on: there is nothing to measure
  };
  std::function<double(const std::vector<Tensor>& inputs)> flop;  // of forward
  double backward = 2;                                            // as a multiple of the flop of forward
  Moves moves = Moves::all;
  bool one_core = false;  // runs in the calling thread
};

struct OpCase {
  std::string name;                     // letters, digits and _, unique
  std::function<Vars(const Vars&)> fn;  // works in f64 and f32, for all shapes that match
  std::vector<OpInput> inputs;
  OpWork work;
  // Factor on the allowed difference of f32 and f64: only for long sums and cancellation; give the reason beside it.
  double tolerance = 1;
  // The number of roundings to bf16 between inputs and results: 2 if backward reads results that forward has rounded.
  double roundings = 1;
};

const std::vector<OpCase>& ops_table();
// Rows for the bench only: operations without a gradient, and more sizes.
const std::vector<OpCase>& bench_table();
// Rows for the bench on a GPU: operations of both tables, at sizes that keep a GPU busy (gpu_table.cpp).
const std::vector<OpCase>& gpu_table();

enum class Size { small, large, bench };
// The same numbers in each call; f64 numbers are exact in f32.
std::vector<Tensor> make_inputs(const OpCase& op, Size size, Dtype dtype);

struct OpRun {
  std::vector<Tensor> outputs;
  std::vector<Tensor> grads;  // one per input, undefined for constants
};
// Runs forward, then backward `passes` times with fixed random gradients of the outputs; the gradients add up.
OpRun run_op(const OpCase& op, const std::vector<Tensor>& inputs, int passes = 1, Dtype seeds_in = Dtype::f32);

}  // namespace supra
