#pragma once
#include <functional>
#include <vector>

#include "nn/decoder.h"
#include "supra/formats/file.h"
#include "supra/formats/parse/json.h"
#include "supra/training/loader.h"

namespace supra {

// Trains the far parts of an untrained window student (supra/window_attention.h), one layer at a time, from the teacher's q, k,
// v and output o of every head. The loss is taken at positions beyond a window that is drawn for each batch from {W/4, W/2, W},
// so that the far part also learns from keys that are not very old:
//
//   1/H sum_h |y_h - o_h|^2 / |o_h|^2  +  0.1 |s - s*|^2 / |s*|^2
//   s: the far part's share of all weights, per head
//   s* = 1 - e^(lse_near - lse_full): the share that the teacher gives these keys
//
// A tenth of the text is held out, and the best epoch on it is kept. A far part stays only if the teacher with this one layer
// is closer to the teacher (KL at late positions) than with a larger window of the same bytes.

struct FitOptions {
  int64_t epochs = 5;
  int64_t kl_tokens = 8192;  // held-out tokens on which a far part is judged
  uint64_t seed = 0;
  Path file = {};           // stores the fitted layers, so that an interrupted fit can continue; empty: none
  std::string origin = {};  // everything else that the result depends on, such as the model
};

struct FittedLayer {
  int64_t layer = 0;
  double before = 0, after = 0;    // held-out error of the outputs: without the far part, and with it
  double kl = 0, kl_window = 0;    // with the far part; with a larger window of the same bytes

  bool kept() const { return kl < kl_window; }
  bool operator==(const FittedLayer&) const = default;
};
inline Json report_of(const FittedLayer& layer) {
  return Json::object({{"layer", layer.layer}, {"error_before", layer.before}, {"error_after", layer.after}, {"kl", layer.kl},
                       {"kl_window", layer.kl_window}, {"kept", layer.kept()}});
}

struct Fit {
  std::vector<FittedLayer> layers;
  Config config;  // the student's config without the far parts that were not kept: for with_mixers()
  bool interrupted = false;
};

struct FitHooks {
  // `layer`: the layer that is being fitted, with its errors so far
  std::function<void(int64_t epochs, int64_t of, const FittedLayer& layer)> on_epoch;
  std::function<bool()> should_stop;  // called between steps
};

// The batches are whole rows of a stream. Holds in memory the residual stream of all tokens, and one layer's attention in f16.
Fit fit_far(Decoder& student, const Decoder& teacher, const std::vector<Batch>& batches, const FitOptions& options,
            const FitHooks& hooks = {});

// Runs Calibration::correction on all but the held-out tenth. Undoes it if KL(teacher || student) on that tenth does not fall.
struct Correction {
  double kl_before = 0, kl_after = 0;
  bool kept() const { return kl_after < kl_before; }
};
Correction correct_projections(Decoder& student, const Decoder& teacher, const std::vector<Batch>& batches);

}  // namespace supra
