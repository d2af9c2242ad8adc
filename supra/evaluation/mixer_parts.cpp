#include "supra/evaluation/mixer_parts.h"

#include <algorithm>

#include "supra/formats/parameters.h"
#include "supra/window_attention.h"

namespace supra {

std::vector<PartsVariant> parts_variants(Decoder& student) {
  Config config = student.config();
  CHECK(std::count(config.mixers.begin(), config.mixers.end(), MixerKind::window) > 0,
        "mixer parts: they show what the windows and the far state of a window student contribute, and this model has no "
        "window layers (linearize --mixer window makes them; --text scores any model)");
  const bool has_far = std::any_of(config.far_features.begin(), config.far_features.end(), [](int64_t n) { return n > 0; });
  std::vector<PartsVariant> variants;
  const auto add = [&](const char* name, MixerParts parts) {
    config.parts = parts;
    variants.push_back({name, with_mixers(student, config)});
  };
  add("all", MixerParts::all);
  if (!has_far) {
    variants.push_back({"window", variants[0].decoder});
  } else {
    add("window", MixerParts::window);
    Config wider = student.config();
    for (int64_t i = 0; i < wider.layers; i++) {
      if (wider.far_features[i] > 0) wider = without_far(wider, i);
    }
    variants.push_back({"window+bytes", with_mixers(student, wider)});
    add("far", MixerParts::far);
  }
  add("none", MixerParts::none);
  return variants;
}

}  // namespace supra
