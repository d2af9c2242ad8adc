#pragma once
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "supra/model.h"

namespace supra {

// The comparison of one key of a golden file with the result of this program.
struct VerifyRow {
  std::string key;
  double error = 0;        // largest |difference| over the largest |golden| value; for ids: the number of differences
  double tolerance = 0;    // the largest allowed error
  std::string note = "";   // why it failed, if the number does not show it
  bool left_out = false;   // it was not computed
  std::optional<double> weight_rounding = {};  // see measure_weight_rounding()

  bool passed() const { return error <= tolerance && note.empty(); }
};

inline constexpr double kTolerance = 2e-4, kToleranceAfterAdamW = 2e-3;  // in float32; adamw.final.* are weights after ten steps
inline constexpr double kToleranceF64 = 1e-6;                            // golden values are float64 rounded to float32

struct VerifyOptions {
  std::optional<double> tolerance = {};  // for all keys except ids; none: the constants above
  // A gradient that is zero in exact arithmetic (a bias of k, which softmax ignores) is rounding noise on both sides. So the
  // error of a gradient is divided by at least this fraction of the model's largest gradient.
  double gradient_floor = 1e-3;
  std::function<bool(const std::string& key)> wanted = {};  // empty: all
  // f64: everything is computed in double, with the reference of each op, on the CPU.
  Dtype dtype = Dtype::f32;
};

// Runs the model on the golden file's `tokens` (and `targets`) and compares with every key the file holds: logits, loss,
// loss_z1e-4, grad.<name>, recurrent_logits, recurrent_states, greedy.ids, adamw.loss, adamw.grad_norm,
// adamw.final.<name>. Unknown keys, other shapes and values that are not finite fail. adamw.* are left out on a GPU, because
// they need double. The weights are restored at the end.
std::vector<VerifyRow> verify(const Model& model, const Path& golden, const VerifyOptions& options = {});

// Sets weight_rounding of each row whose error is above its tolerance: the error, in double, if every weight moves randomly
// within its rounding to float32. If that is above the tolerance too, no float32 program can be expected to meet the
// tolerance.
void measure_weight_rounding(const Model& model, const Path& golden, const VerifyOptions& options, std::vector<VerifyRow>& rows);

}  // namespace supra
