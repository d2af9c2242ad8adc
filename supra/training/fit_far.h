#pragma once
#include <functional>
#include <vector>

#include "nn/decoder.h"
#include "supra/formats/json.h"
#include "supra/training/loader.h"
#include "tensor/file.h"

namespace supra {

// Trains the far parts of a fresh window student (supra/window_attention.h), without back-propagation through the model. The
// teacher reads the text once, layer by layer. For each layer with far features, the teacher's q, k, v and output o of every
// head are kept. Only the layer's far parameters are trained. The loss is taken at positions beyond a window W' that each batch
// draws from {W/4, W/2, W}, so that the far part also learns from keys that are not very old:
//
//   1/H sum_h |y_h - o_h|^2 / |o_h|^2  +  share_weight |s - s*|^2 / |s*|^2
//   s: the far part's share of the joined weights, a head
//   s* = 1 - e^(lse_near - lse_full): the share that the teacher gives those keys
//
// A tenth of the text is held out; the best epoch on it is kept. A far part stays only if the layer, alone in the teacher,
// is closer to it (KL of the next token, held-out text, late positions) than with the far part's bytes spent on its window.

struct FitOptions {
  int64_t epochs = 5;
  double lr = 5e-2, last_lr = 1e-3;  // cosine, after a warmup of a twentieth of the steps
  double share_weight = 0.1;
  int64_t kl_tokens = 8192;  // of the held-out text, that a far part is judged on
  uint64_t seed = 0;
  Path file = {};           // holds the layers that are fitted, so that the same fit goes on after an interruption; empty: none
  std::string origin = {};  // what else the result depends on, such as the model
};

struct FittedLayer {
  int64_t layer = 0;
  double before = 0, after = 0;    // held-out error of the outputs: without the far part, and with it
  double kl = 0, kl_window = 0;    // with the far part; with a larger window of the same bytes
  bool kept = false;

  bool operator==(const FittedLayer&) const = default;
};
inline Json report_of(const FittedLayer& layer) {
  return Json::object({{"layer", layer.layer}, {"error_before", layer.before}, {"error_after", layer.after}, {"kl", layer.kl},
                       {"kl_window", layer.kl_window}, {"kept", layer.kept}});
}

struct Fit {
  std::vector<FittedLayer> layers;
  Config config;  // the student's, without the far parts that were not kept: for with_mixers()
  bool interrupted = false;
};

struct FitHooks {
  // `layer`: the one being fitted, with its errors so far
  std::function<void(int64_t epochs, int64_t of, const FittedLayer& layer)> on_epoch;
  std::function<bool()> should_stop;  // asked between steps
};

// The batches are whole rows of a stream, which begin at position 0. Holds the stream of all tokens, and in f16 what one
// layer's attention is made of.
Fit fit_far(Decoder& student, const Decoder& teacher, const std::vector<Batch>& batches, const FitOptions& options,
            const FitHooks& hooks = {});

// Runs Calibration::correction on all but the held-out tenth. Undoes it if KL(teacher || student) on that tenth does not fall.
struct Correction {
  double kl_before = 0, kl_after = 0;
  bool kept = false;
};
Correction correct_projections(Decoder& student, const Decoder& teacher, const std::vector<Batch>& batches);

}  // namespace supra
