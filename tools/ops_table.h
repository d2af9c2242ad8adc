#pragma once
#include <functional>
#include <string>
#include <vector>

#include "kernels/ops.h"

// Every operation, one row a case. tests/ops_test.cpp runs all its proofs from a row, the bench its timings:
// adding an operation is adding a row to ops_table.cpp (ops_table_attention.cpp).

namespace supra {

using Vars = std::vector<Var>;

enum class Fill {
  normal,
  positive,        // [0.5, 1.5)
  away_from_zero,  // the same with a random sign: a step of gradcheck never crosses a kink at zero
  log_decay,       // [-1, 0)
  fraction,        // [0, 1)
  direction        // normal, over the root of the last dimension: rows about 1 long
};

struct OpInput {
  const char* name;
  Shape small;  // gradcheck takes two runs an element: a few dozen elements in all
  Shape large;  // odd sizes beyond a vector, a block and a thread's share
  Shape bench;  // as in use; where memory is the limit, far beyond the caches
  Fill fill = Fill::normal;
  bool constant = false;      // no gradient is asked for
  Dtype stored = Dtype::f32;  // a constant of the bench may be another
  bool parameter = false;     // stays f32 beside activations in bf16
};

// What an operation cannot do without: the bench judges by it. Bytes are counted by its tensors, each read or
// written once.
struct OpWork {
  enum class Moves {
    all,             // forward reads the inputs; backward reads them and the gradient of the outputs
    gradient,        // the same, but backward reads that gradient alone
    rows,            // forward reads as much as it writes: rows of a table
    nothing_in_back  // backward hands its gradient on: there is nothing to time
  };
  std::function<double(const std::vector<Tensor>& inputs)> flop;  // of forward
  double backward = 2;                                            // so many times the flop of forward
  Moves moves = Moves::all;
  bool one_core = false;  // runs in the calling thread
};

struct OpCase {
  std::string name;                     // letters, digits and _, unique
  std::function<Vars(const Vars&)> fn;  // in f64 and f32, for any shapes that fit together
  std::vector<OpInput> inputs;
  OpWork work;
  // Multiplies what f32 may differ from f64: only for long sums and cancellation, say why beside it.
  double tolerance = 1;
  // To bf16, between inputs and results: 2 where backward reads what forward has rounded.
  double roundings = 1;
};

const std::vector<OpCase>& ops_table();
// What only the bench runs: operations without a gradient, and more sizes.
const std::vector<OpCase>& bench_table();
// What the bench runs on a GPU: operations of both tables, at sizes that keep one busy (gpu_table.cpp).
const std::vector<OpCase>& gpu_table();

enum class Size { small, large, bench };
// The same numbers at every call, those of f64 exact in f32.
std::vector<Tensor> make_inputs(const OpCase& op, Size size, Dtype dtype);

struct OpRun {
  std::vector<Tensor> outputs;
  std::vector<Tensor> grads;  // one an input, undefined for constants
};
// Forward, then `passes` times backward, from fixed random gradients of the outputs; the gradients add up.
OpRun run_op(const OpCase& op, const std::vector<Tensor>& inputs, int passes = 1, Dtype seeds_in = Dtype::f32);

}  // namespace supra
