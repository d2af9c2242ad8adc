#pragma once
#include <string>
#include <vector>

#include "supra/evaluation/window_budget.h"
#include "supra/formats/parse/json.h"
#include "supra/linearize.h"
#include "supra/training/fit_far.h"

// Windows of layers on the command line, in tables and in JSON.

namespace supra {

// "512", or "512:17,18,20-24" for some layers. Throws UsageError.
LayerSetting read_layer_setting(const std::string& text);

// A list of ascending layers: "0-3, 5".
std::string format_layers(const std::vector<int64_t>& layers);
std::vector<int64_t> layers_with(const Config& config, MixerKind kind);

// Groups of equal window layers, the largest windows first: "512 keys in layers 17, 20", with "and 64 far features" if they have any.
std::vector<std::string> describe_windows(const Config& config);
// The flags that produce them: "--window 114 --window 512:17,20".
std::string window_flags(const Config& config);
// One object per window layer: "layer", "window", "sinks", "far_features"; if it was fitted, also its errors, KLs and verdict.
Json window_rows(const Config& config, const Fit* fit = nullptr);

void print_sensitivity(const Config& config, const Sensitivity& sensitivity);  // the greatest gain first
Json to_json(const Sensitivity& sensitivity, const Config& config);
void print_tries(const Config& config, const std::vector<WindowTry>& tries);
Json to_json(const std::vector<WindowTry>& tries);
void print_fit(const Fit& fit, const Correction& correction);
Json to_json(const Correction& correction);

}  // namespace supra
