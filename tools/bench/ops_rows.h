#pragma once
#include "tools/bench/ops_table.h"

// Helpers for the rows of the table of operations.

namespace supra {

// Forward needs this many operations per element of the first input, backward twice as many.
inline OpWork each(double flop) {
  return {
      .flop = [flop](const std::vector<Tensor>& in) { return flop * static_cast<double>(in[0].numel()); }};
}

// Forward and backward only move data.
inline OpWork moved(double flop = 0) {
  OpWork work = each(flop);
  work.moves = OpWork::Moves::gradient;
  return work;
}

// A matrix product: each element of the first input is multiplied with `columns(inputs)` columns.
template <class F>
inline OpWork product(F columns) {
  OpWork work;
  work.flop = [columns](const std::vector<Tensor>& in) {
    return 2.0 * static_cast<double>(in[0].numel()) * static_cast<double>(columns(in));
  };
  return work;
}

inline OpInput parameter(OpInput input) {
  input.parameter = true;
  return input;
}

// Cuts of rows that end at `ends`: after the first column, before the last and in between, or once in the middle.
inline Cuts some_cuts(const std::vector<int64_t>& ends) {
  Cuts cuts(ends.size());
  for (size_t b = 0; b < ends.size(); b++) {
    const int64_t n = ends[b];
    for (int64_t cut : b % 2 ? std::vector{n / 2} : std::vector{int64_t{1}, 2 * n / 3, n - 1}) {
      if (cut > (cuts[b].empty() ? 0 : cuts[b].back()) && cut < n) cuts[b].push_back(cut);
    }
  }
  return cuts;
}

// Marks inputs that get no gradient.
inline std::vector<OpInput> constants(std::vector<OpInput> inputs) {
  for (OpInput& input : inputs) input.constant = true;
  return inputs;
}

// ---- ops_table_attention.cpp
// Rows of the table of operations.
void add_attention(std::vector<OpCase>& table);
// Rows of the bench: linear attention as in the training of a SUPRA layer, and the decoding steps.
void add_trained_attention(std::vector<OpCase>& table);
void add_attention_steps(std::vector<OpCase>& table);

}  // namespace supra
