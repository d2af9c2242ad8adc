#include "supra/evaluation/mixer_parts.h"

#include <algorithm>

#include "supra/formats/parameters.h"
#include "supra/window_attention.h"

namespace supra {

// Windows larger by what the far states take, in whole keys.
static Config with_bytes_in_windows(Config config) {
  const auto shape = [](const Config& c) { return describe_decoder(c); };
  const auto with_far = shape(config);
  config.far_features.clear();
  const auto without = shape(config);
  Config wider = config;
  for (int64_t& window : wider.windows) window++;
  const auto with_key = shape(wider);
  for (int64_t i = 0; i < config.layers; i++) {
    if (config.mixers[i] != MixerKind::window) continue;
    const auto bytes = [i](const auto& decoder) { return static_cast<int64_t>(decoder->mixer(i).state_bytes(0)); };
    config.windows[i] += (bytes(with_far) - bytes(without)) / (bytes(with_key) - bytes(without));
  }
  return config;
}

std::vector<PartsVariant> parts_variants(Decoder& student) {
  Config config = student.config();
  CHECK(std::count(config.mixers.begin(), config.mixers.end(), MixerKind::window) > 0,
        "mixer parts: they show what a window student owes to its windows and what to its far state, and this model has no "
        "window layers (linearize --mixer window makes them; --text scores any model)");
  const bool has_far = std::any_of(config.far_features.begin(), config.far_features.end(), [](int64_t n) { return n > 0; });
  std::vector<PartsVariant> variants;
  const auto add = [&](const char* name, MixerParts parts) {
    config.parts = parts;
    variants.push_back({name, with_windows(student, config)});
  };
  add("all", MixerParts::all);
  if (!has_far) {
    variants.push_back({"window", variants[0].decoder});
  } else {
    add("window", MixerParts::window);
    variants.push_back({"window+bytes", with_windows(student, with_bytes_in_windows(student.config()))});
    add("far", MixerParts::far);
  }
  add("none", MixerParts::none);
  return variants;
}

}  // namespace supra
