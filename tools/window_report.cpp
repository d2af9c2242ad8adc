#include "tools/window_report.h"

#include <algorithm>
#include <cstdio>
#include <map>

#include "supra/formats/parameters.h"
#include "tools/args.h"
#include "tools/human.h"

namespace supra {

LayerSetting read_layer_setting(const std::string& text) {
  const std::string expected = "'" + text + "' is not a number, or one for some layers (such as 512:0,17-20)";
  LayerSetting setting;
  const size_t colon = text.find(':');
  try {
    read_value(text.substr(0, colon), setting.value);
    for (size_t at = colon; at < text.size();) {
      const size_t comma = std::min(text.find(',', at + 1), text.size());
      const std::string range = text.substr(at + 1, comma - at - 1);
      const size_t dash = range.find('-');
      int64_t first = 0, last = 0;
      read_value(range.substr(0, dash), first);
      read_value(range.substr(dash == range.npos ? 0 : dash + 1), last);
      if (last < first || last > kMostLayers) throw UsageError(expected);
      for (int64_t layer = first; layer <= last; layer++) setting.layers.push_back(layer);
      at = comma;
    }
  } catch (const UsageError&) {
    throw UsageError(expected);
  }
  return setting;
}

std::string format_layers(const std::vector<int64_t>& layers) {
  std::string text;
  for (size_t i = 0; i < layers.size(); i++) {
    const int64_t first = layers[i];
    while (i + 1 < layers.size() && layers[i + 1] == layers[i] + 1) i++;
    text += (text.empty() ? "" : ", ") + std::to_string(first) + (layers[i] > first ? "-" + std::to_string(layers[i]) : "");
  }
  return text;
}

std::vector<int64_t> layers_with(const Config& config, MixerKind kind) {
  std::vector<int64_t> layers;
  for (int64_t i = 0; i < config.layers; i++) {
    if (config.mixers[i] == kind) layers.push_back(i);
  }
  return layers;
}

static int64_t far_features_of(const Config& config, int64_t layer) { return config.far_features.empty() ? 0 : config.far_features[layer]; }

// By window and far features.
static std::map<std::pair<int64_t, int64_t>, std::vector<int64_t>, std::greater<>> groups_of(const Config& config) {
  std::map<std::pair<int64_t, int64_t>, std::vector<int64_t>, std::greater<>> groups;
  for (const int64_t i : layers_with(config, MixerKind::window)) groups[{config.windows[i], far_features_of(config, i)}].push_back(i);
  return groups;
}

std::vector<std::string> describe_windows(const Config& config) {
  std::vector<std::string> lines;
  for (const auto& [of, layers] : groups_of(config)) {
    const std::string far = of.second > 0 ? format(" and %ld far features", static_cast<long>(of.second)) : "";
    lines.push_back(format("%ld keys%s in layers %s", static_cast<long>(of.first), far.c_str(), format_layers(layers).c_str()));
  }
  return lines;
}

std::string window_flags(const Config& config) {
  std::map<int64_t, std::vector<int64_t>> groups;
  for (const int64_t i : layers_with(config, MixerKind::window)) groups[config.windows[i]].push_back(i);
  const auto larger = [](const auto& a, const auto& b) { return a.second.size() < b.second.size(); };
  const int64_t usual = std::max_element(groups.begin(), groups.end(), larger)->first;
  std::string flags = "--window " + std::to_string(usual);
  for (const auto& [window, layers] : groups) {
    if (window == usual) continue;
    std::string list = format_layers(layers);
    list.erase(std::remove(list.begin(), list.end(), ' '), list.end());
    flags += " --window " + std::to_string(window) + ":" + list;
  }
  return flags;
}

Json window_rows(const Config& config, const Fit* fit) {
  Json rows = Json::array();
  for (const int64_t i : layers_with(config, MixerKind::window)) {
    Json row = Json::object();
    row.set("layer", i);
    row.set("window", config.windows[i]);
    row.set("sinks", config.sinks);
    row.set("far_features", far_features_of(config, i));
    for (size_t k = 0; fit && k < fit->layers.size(); k++) {
      if (fit->layers[k].layer != i) continue;
      const Json report = report_of(fit->layers[k]);
      for (const Json::Member& field : report.as_object()) {
        if (field.key != "layer") row.set(field.key, field.value);
      }
    }
    rows.push(std::move(row));
  }
  return rows;
}

void print_sensitivity(const Config& config, const Sensitivity& s) {
  std::vector<int64_t> layers = layers_with(config, MixerKind::window);
  std::stable_sort(layers.begin(), layers.end(), [&](int64_t a, int64_t b) { return s.gains[a] > s.gains[b]; });
  printf("every layer sees far %.4f nats a token, all see %ld keys and %ld sinks %.4f; one layer alone sees far:\n", s.full,
         static_cast<long>(s.window), static_cast<long>(config.sinks), s.base);
  printf("layer     gain\n");
  for (const int64_t i : layers) printf("%5ld  %7.4f\n", static_cast<long>(i), s.gains[i]);
}

Json to_json(const Sensitivity& s, const Config& config) {
  Json report = Json::object(), rows = Json::array();
  report.set("base", s.base);
  report.set("full", s.full);
  report.set("window", s.window);
  report.set("sinks", config.sinks);
  for (const int64_t i : layers_with(config, MixerKind::window)) {
    Json row = Json::object();
    row.set("layer", i);
    row.set("gain", s.gains[i]);
    rows.push(std::move(row));
  }
  report.set("layers", std::move(rows));
  return report;
}

void print_tries(const Config& config, const std::vector<WindowTry>& tries) {
  Config tried = config;
  printf("windows                 nats a token    flags\n");
  for (const WindowTry& one : tries) {
    tried.windows = one.windows;
    printf("%-22s  %.4f%-8s  %s\n", one.name.c_str(), one.nll, one.finalist ? "" : " (half)", window_flags(tried).c_str());
  }
}

Json to_json(const std::vector<WindowTry>& tries) {
  Json rows = Json::array();
  for (const WindowTry& one : tries) {
    Json row = Json::object(), windows = Json::array();
    for (const int64_t window : one.windows) windows.push(window);
    row.set("name", one.name);
    row.set("nll", one.nll);
    row.set("finalist", one.finalist);
    row.set("windows", std::move(windows));
    rows.push(std::move(row));
  }
  return rows;
}

void print_fit(const Fit& fit, const Correction& correction) {
  printf("far part  error, none    fitted  KL, fitted  as window\n");
  for (const FittedLayer& layer : fit.layers) {
    printf("layer %2ld        %.4f    %.4f     %.5f    %.5f  %s\n", static_cast<long>(layer.layer), layer.before, layer.after, layer.kl,
           layer.kl_window, layer.kept() ? "kept" : "its bytes are window");
  }
  printf("output projections corrected: KL %.4f, before %.4f%s\n", correction.kl_after, correction.kl_before,
         correction.kept() ? "" : "; left as they were");
}

Json to_json(const Correction& correction) {
  return Json::object({{"kl_before", correction.kl_before}, {"kl_after", correction.kl_after}, {"kept", correction.kept()}});
}

}  // namespace supra
