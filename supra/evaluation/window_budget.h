#pragma once
#include <functional>
#include <string>
#include <vector>

#include "nn/decoder.h"

namespace supra {

// Chooses which layers of a window student get the bytes of its state. Layers differ in what they lose, so this is measured
// on text.

using Sequences = std::vector<std::vector<int32_t>>;

// How much the loss falls when one layer alone has its full window. No window grows beyond the student's own.
struct Sensitivity {
  int64_t window = 0;         // of all layers but one
  double base = 0, full = 0;  // nats a token where every layer has that window, and where each has its own
  std::vector<double> gains;  // one a layer: base minus the loss with only this layer at its full window; 0 if it is no window layer
};

// Called with the work that is done and that there is.
using OnMeasured = std::function<void(int64_t done, int64_t total)>;

// Far features are left out. Throws Error where no sequence is long enough to tell.
Sensitivity measure_sensitivity(Decoder& student, const Sequences& text, const OnMeasured& on_measured = {});

struct WindowTry {
  std::string name;              // "4 layers of 512", "78 + gain^1 to 512"
  std::vector<int64_t> windows;  // as in Config
  double nll = 0;                // nats a token
  bool finalist = false;         // it was tried on all of the text, not on half of it
};

// Throws Error where the bytes are too few for one key a layer.
void check_state_bytes(const Config& student, int64_t state_bytes);

// Several ways to share at most this many bytes (far states included) among the windows: all equal; a few large ones where
// the gain is greatest; larger ones where the gain is larger. None exceeds the student's own.
std::vector<WindowTry> window_allocations(const Config& student, int64_t state_bytes, const Sensitivity& sensitivity);

// Scores them on half of the text and the best again on all of it, and sorts them, the best first. The text is to be another
// than what the sensitivity was measured on.
std::vector<WindowTry> try_allocations(Decoder& student, std::vector<WindowTry> tries, const Sequences& text, const OnMeasured& on_measured = {});

}  // namespace supra
