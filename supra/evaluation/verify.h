#pragma once
#include <functional>
#include <string>
#include <vector>

#include "supra/model.h"

namespace supra {

// One key of a golden file against what this program computes.
struct VerifyRow {
  std::string key;
  double error = 0;      // largest |difference| over the largest |golden| value; of ids: how many differ
  double tolerance = 0;  // what `error` may be
  std::string note;      // why it failed where a number does not tell
  bool left_out = false; // it was not computed

  bool passed() const { return error <= tolerance && note.empty(); }
};

struct VerifyOptions {
  double tolerance = 2e-4;
  double adamw_tolerance = 2e-3;  // of adamw.final.*: weights after ten steps
  // A gradient that is zero in exact arithmetic (a bias of k that softmax does not see) is rounding noise on both sides.
  // What a gradient is measured against is at least this fraction of the largest gradient of the model.
  double gradient_floor = 1e-3;
  std::function<bool(const std::string& key)> wanted = {};  // empty: all
};

// Runs the model on the golden file's `tokens` (and `targets`) and compares with every key the file holds: logits, loss,
// loss_z1e-4, grad.<name>, recurrent_logits, recurrent_states, greedy.ids, adamw.loss, adamw.grad_norm,
// adamw.final.<name>. A key it does not know is a failed row; adamw.* are left out on a GPU, since they need double. The
// weights are those of before when it returns.
std::vector<VerifyRow> verify(const Model& model, const Path& golden, const VerifyOptions& options = {});

}  // namespace supra
