#pragma once
#include <functional>
#include <string>
#include <vector>

#include "nn/decoder.h"

namespace supra {

// Divides the bytes of a window student's state among its layers. Layers lose different amounts with a small window, which is
// measured on text.

using Sequences = std::vector<std::vector<int32_t>>;

// How much the loss falls when one layer alone has its full window. No window grows beyond the student's own.
struct Sensitivity {
  int64_t window = 0;         // the window of all layers except one
  double base = 0, full = 0;  // nats per token if every layer has that window, and if each has its own
  std::vector<double> gains;  // per layer: base minus the loss with only this layer at its full window; 0 for other layers
};

// Called with the finished work and all work.
using OnMeasured = std::function<void(int64_t done, int64_t total)>;

// Far features are switched off. Throws Error if no sequence is long enough.
Sensitivity measure_sensitivity(Decoder& student, const Sequences& text, const OnMeasured& on_measured = {});

struct WindowTry {
  std::string name;              // "4 layers of 512", "78 + gain^1 to 512"
  std::vector<int64_t> windows;  // as in Config
  double nll = 0;                // nats per token
  bool finalist = false;         // it was scored on the whole text, not only on half of it
};

// Throws Error if the bytes are too few for one key per layer.
void check_state_bytes(const Config& student, int64_t state_bytes);

// Several ways to divide at most this many bytes (including far states) among the windows: all equal; large windows for the few
// layers with the greatest gain; windows in proportion to the gain. None exceeds the student's own.
std::vector<WindowTry> window_allocations(const Config& student, int64_t state_bytes, const Sensitivity& sensitivity);

// Scores them on half of the text, then the best ones on all of it, and sorts them, the best first. Use another text than the
// one on which the sensitivity was measured.
std::vector<WindowTry> try_allocations(Decoder& student, std::vector<WindowTry> tries, const Sequences& text, const OnMeasured& on_measured = {});

}  // namespace supra
