#pragma once
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "supra/model.h"

namespace supra {

// One key of a golden file against what this program computes.
struct VerifyRow {
  std::string key;
  double error = 0;        // largest |difference| over the largest |golden| value; of ids: how many differ
  double tolerance = 0;    // what `error` may be
  std::string note = "";   // why it failed where a number does not tell
  bool left_out = false;   // it was not computed
  std::optional<double> weight_rounding = {};  // see measure_weight_rounding()

  bool passed() const { return error <= tolerance && note.empty(); }
};

inline constexpr double kTolerance = 2e-4, kToleranceAfterAdamW = 2e-3;  // in float32; adamw.final.* are weights after ten steps
inline constexpr double kToleranceF64 = 1e-6;                            // golden values are float64 rounded to float32

struct VerifyOptions {
  std::optional<double> tolerance = {};  // of all keys but ids; else the constants above
  // A gradient that is zero in exact arithmetic (a bias of k that softmax does not see) is rounding noise on both sides.
  // What a gradient is measured against is at least this fraction of the largest gradient of the model.
  double gradient_floor = 1e-3;
  std::function<bool(const std::string& key)> wanted = {};  // empty: all
  // f64: everything is computed in double by the reference of each op, on the CPU.
  Dtype dtype = Dtype::f32;
};

// Runs the model on the golden file's `tokens` (and `targets`) and compares with every key the file holds: logits, loss,
// loss_z1e-4, grad.<name>, recurrent_logits, recurrent_states, greedy.ids, adamw.loss, adamw.grad_norm,
// adamw.final.<name>. A key it does not know, another shape and a value that is not finite are failed rows; adamw.* are left
// out on a GPU, since they need double. The weights are those of before when it returns.
std::vector<VerifyRow> verify(const Model& model, const Path& golden, const VerifyOptions& options = {});

// Sets weight_rounding of each row whose error is above its tolerance: the error, in double, that moving every weight at
// random within its rounding to float32 makes. Where that is above the tolerance too, no float32 program can be expected to
// meet it.
void measure_weight_rounding(const Model& model, const Path& golden, const VerifyOptions& options, std::vector<VerifyRow>& rows);

}  // namespace supra
