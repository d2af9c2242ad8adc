#pragma once
#include <utility>

#include "supra/linearize.h"
#include "supra/training/calibrate.h"
#include "tools/device_flags.h"

namespace supra {

// The text on which windows are chosen or judged.
struct BudgetFlags {
  std::optional<int64_t> state_bytes;
  Path text, sensitivity;  // one of them, or none
  int64_t tokens = 12000;

  bool measures() const { return !text.empty() || !sensitivity.empty(); }
};

// The text on which far states are fitted.
struct FitFlags {
  Path text;
  int64_t tokens = 200'000, epochs = 5;
};

// The text on which output projections are fitted.
struct CalibrationFlags {
  Path text;
  std::optional<int64_t> tokens;
  Calibration kind = Calibration::ridge;
};

// The command line of supra linearize.
struct LinearizeFlags {
  Path input, output;
  std::string tokenizer, separator;
  LinearizeOptions options;
  BudgetFlags budget;
  FitFlags fit;
  CalibrationFlags calibration;
  DeviceFlags device;
  bool json = false;

  bool window() const { return options.mixer == MixerKind::window; }
  // Declares the flags, parses and checks them. Throws UsageError if a flag has no effect on the chosen mixer.
  void read(Args& args);

 private:
  using Flags = std::vector<const Flag*>;
  void declare_common(Args& args);
  void declare_window(Args& args);
  void declare_state(Args& args);
  void check(const Args& args) const;

  std::pair<MixerKind, DecayConfig::Source> mixer_ = {MixerKind::supra, DecayConfig::Source::fixed};
  std::pair<bool, bool> rope_ = {true, false};  // rotates, rope_before_map
  // flags that have no effect on other mixers, or without another flag
  Flags of_state_, of_decay_, of_window_, of_fit_, of_budget_;
  const Flag *init_ = nullptr, *convolution_ = nullptr;
};

}  // namespace supra
