#pragma once
#include <functional>
#include <string>
#include <vector>

#include "nn/decoder.h"

namespace supra {

// Which layers of a window student get the bytes of its state: measured on text, for layers differ in what they lose.

using Sequences = std::vector<std::vector<int32_t>>;

// What a layer gains that alone sees far. The student's own windows are the most that its layers may have.
struct Sensitivity {
  int64_t window = 0;         // of all layers but one
  double base = 0, full = 0;  // nats a token where every layer has that window, and where each has its own
  std::vector<double> gains;  // a layer: base less the loss where this one alone has its own; 0 where it is no window layer
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

// Windows for at most this many bytes of a sequence's state, far features of the student included, in several ways: all
// alike; large ones where the gain is greatest; the larger the greater the gain. None is larger than the student's own.
std::vector<WindowTry> window_allocations(const Config& student, int64_t state_bytes, const Sensitivity& sensitivity);

// Scores them on half of the text and the best again on all of it, and sorts them, the best first. The text is to be another
// than what the sensitivity was measured on.
std::vector<WindowTry> try_allocations(Decoder& student, std::vector<WindowTry> tries, const Sequences& text, const OnMeasured& on_measured = {});

}  // namespace supra
