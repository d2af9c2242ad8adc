#include "supra/evaluation/window_budget.h"

#include <algorithm>
#include <cmath>

#include "supra/evaluation/perplexity.h"
#include "supra/formats/parameters.h"
#include "supra/window_attention.h"

namespace supra {
namespace {

using Windows = std::vector<int64_t>;

std::vector<int64_t> window_layers(const Config& config) {
  std::vector<int64_t> layers;
  for (int64_t i = 0; i < config.layers; i++) {
    if (config.mixers[i] == MixerKind::window) layers.push_back(i);
  }
  CHECK(!layers.empty(), "windows: the student has no window layers (linearize --mixer window makes them)");
  return layers;
}

Config with(Config config, const Windows& windows) {
  config.windows = windows;
  return config;
}

// The student's windows, with window layers limited to this.
Windows at_most(const Config& config, int64_t window) {
  Windows windows = config.windows;
  for (const int64_t i : window_layers(config)) windows[i] = std::min(windows[i], window);
  return windows;
}

int64_t bytes_of(const Config& config, const Windows& windows) {
  return static_cast<int64_t>(describe_decoder(with(config, windows))->state_bytes(0));
}

// The number of keys of all windows together. A key has the same size in each layer.
int64_t keys_for(const Config& config, int64_t state_bytes) {
  check_state_bytes(config, state_bytes);
  const std::vector<int64_t> layers = window_layers(config);
  const Windows least = at_most(config, 1);
  Windows wider = least;
  wider[layers[0]]++;
  const int64_t bytes = bytes_of(config, least);
  return static_cast<int64_t>(layers.size()) + (state_bytes - bytes) / (bytes_of(config, wider) - bytes);
}

// Divides keys among the window layers.
struct Purse {
  const Config& config;
  std::vector<int64_t> layers;  // in descending order of gain
  int64_t keys;

  // window = least + share * weight, rounded down, at most `most` and the layer's own, with the largest share that fits; the
  // first layers get the remainder. Empty if there are too few keys. Weights and windows are in the order of `layers`.
  Windows spend(const std::vector<int64_t>& least, const std::vector<double>& weight, int64_t most = INT32_MAX) const {
    const auto windows_at = [&](double share) {
      Windows windows = config.windows;
      for (size_t r = 0; r < layers.size(); r++) {
        const double keys_of = static_cast<double>(least[r]) + share * weight[r];
        int64_t& window = windows[layers[r]];
        window = std::min(window, static_cast<int64_t>(std::min(keys_of, static_cast<double>(most))));
      }
      return windows;
    };
    const auto left_of = [&](const Windows& windows) {
      int64_t left = keys;
      for (const int64_t i : layers) left -= windows[i];
      return left;
    };
    double low = 0, high = 1e9;
    if (left_of(windows_at(low)) < 0) return {};
    for (int step = 0; step < 100; step++) (left_of(windows_at((low + high) / 2)) < 0 ? high : low) = (low + high) / 2;
    Windows windows = windows_at(low);
    int64_t left = left_of(windows);
    for (size_t r = 0; r < layers.size() && left > 0; r++) {
      if (weight[r] > 0 && windows[layers[r]] < std::min(most, config.windows[layers[r]])) windows[layers[r]]++, left--;
    }
    return windows;
  }
};

}  // namespace

void check_state_bytes(const Config& config, int64_t state_bytes) {
  const int64_t least = bytes_of(config, at_most(config, 1));
  CHECK(state_bytes >= least,
        "windows: %ld bytes of state are too few: %ld sinks and one more key in each layer need %ld (give more bytes, or fewer --sinks or --far-features)",
        static_cast<long>(state_bytes), static_cast<long>(config.sinks), static_cast<long>(least));
}

Sensitivity measure_sensitivity(Decoder& student, const Sequences& text, const OnMeasured& on_measured) {
  NoGrad off;
  Config config = student.config();
  std::fill(config.far_features.begin(), config.far_features.end(), 0);
  size_t longest = 0;
  for (const auto& ids : text) longest = std::max(longest, ids.size());
  CHECK(longest >= 16, "sensitivity: the longest sequence has %zu tokens, at least 16 are needed", longest);

  const int64_t L = config.layers, total = static_cast<int64_t>(text.size()) * ((L + 1) * (L + 2) / 2 + 1);
  int64_t done = 0;
  Sensitivity result;
  result.window = std::min<int64_t>(64, static_cast<int64_t>(longest) / 8);
  result.gains.assign(L, 0);
  const auto far = with_mixers(student, config), near = with_mixers(student, with(config, at_most(config, result.window)));
  const double predicted = static_cast<double>(predicted_tokens(text));
  for (const auto& ids : text) {
    if (ids.size() < 2) continue;
    const int64_t T = static_cast<int64_t>(ids.size()) - 1;
    const Steps steps = {{0}, {}, {}};
    const Tensor tokens = Tensor::of(std::vector<int32_t>(ids.begin(), ids.end() - 1), {1, T}),
                 targets = Tensor::of(std::vector<int32_t>(ids.begin() + 1, ids.end()), {T});
    // x continues through the near layers from `layer` on
    const auto loss_from = [&](int64_t layer, Var x) {
      done += L - layer + 1;
      for (; layer < L; layer++) x = near->block(layer, x, steps);
      if (on_measured) on_measured(done, total);
      return near->loss(near->last_norm(x), targets, 0).value().item() * static_cast<double>(T) / predicted;
    };
    Var x = near->embed(tokens, steps), y = x;
    result.base += loss_from(0, x);
    for (int64_t i = 0; i < L; i++) {
      if (config.mixers[i] == MixerKind::window) result.gains[i] -= loss_from(i + 1, far->block(i, x, steps));
      x = near->block(i, x, steps);
      y = far->block(i, y, steps);
    }
    result.full += loss_from(L, y);
  }
  for (const int64_t i : window_layers(config)) result.gains[i] += result.base;
  return result;
}

std::vector<WindowTry> window_allocations(const Config& student, int64_t state_bytes, const Sensitivity& sensitivity) {
  std::vector<int64_t> layers = window_layers(student);
  const auto& gains = sensitivity.gains;
  std::stable_sort(layers.begin(), layers.end(), [&](int64_t a, int64_t b) { return gains[a] > gains[b]; });
  const int64_t L = static_cast<int64_t>(layers.size()), keys = keys_for(student, state_bytes), alike = keys / L;
  const Purse purse{student, layers, keys};
  int64_t large = 2;
  while (large < 2 * alike) large *= 2;
  const int64_t widest = *std::max_element(student.windows.begin(), student.windows.end());

  std::vector<WindowTry> tries;
  const auto add = [&](const std::string& name, const Windows& windows) {
    const bool known = std::any_of(tries.begin(), tries.end(), [&](const WindowTry& other) { return other.windows == windows; });
    if (!windows.empty() && !known) tries.push_back({name, windows});
  };
  const std::vector<int64_t> one(L, 1);
  add("all alike", purse.spend(one, std::vector<double>(L, 1)));
  for (const int64_t size : {std::min(large, widest), std::min(2 * large, widest)}) {
    for (const int64_t parts : {8, 5, 4, 3}) {
      const int64_t n = std::max<int64_t>(1, (L + parts / 2) / parts);
      std::vector<int64_t> least = one;
      std::vector<double> weight(L, 1);
      std::fill_n(least.begin(), n, size);
      std::fill_n(weight.begin(), n, 0);
      if (n < L) add(format("%ld layer%s of %ld", static_cast<long>(n), n == 1 ? "" : "s", static_cast<long>(size)), purse.spend(least, weight));
    }
    // if a layer loses gain / window^a, the optimum is gain^(1 / (1 + a)); but gains do not simply add up
    for (const auto& [part, power] : {std::pair(0.25, 0.5), {0.4, 0.75}, {0.4, 1}, {0.55, 1}}) {
      const int64_t least = std::max<int64_t>(1, std::llround(part * static_cast<double>(alike)));
      std::vector<double> weight;
      for (const int64_t i : layers) weight.push_back(std::pow(std::max(gains[i], 1e-4), power));
      add(format("%ld + gain^%g to %ld", static_cast<long>(least), power, static_cast<long>(size)),
          purse.spend(std::vector<int64_t>(L, least), weight, size));
    }
  }
  return tries;
}

std::vector<WindowTry> try_allocations(Decoder& student, std::vector<WindowTry> tries, const Sequences& text, const OnMeasured& on_measured) {
  constexpr size_t kFinalists = 4;
  const Sequences first(text.begin(), text.begin() + (text.size() + 1) / 2), rest(text.begin() + first.size(), text.end());
  const double n = static_cast<double>(predicted_tokens(first)), m = static_cast<double>(predicted_tokens(rest));
  const size_t finalists = m > 0 ? std::min(kFinalists, tries.size()) : 0;
  int64_t done = 0;
  const auto score = [&](const WindowTry& one, const Sequences& part) {
    const double nll = evaluate(*with_mixers(student, with(student.config(), one.windows)), part).nll;
    if (on_measured) on_measured(++done, static_cast<int64_t>(tries.size() + finalists));
    return nll;
  };
  const auto better = [](const WindowTry& a, const WindowTry& b) { return a.nll < b.nll; };
  for (WindowTry& one : tries) one.nll = score(one, first);
  std::stable_sort(tries.begin(), tries.end(), better);
  for (size_t i = 0; i < finalists; i++) {
    tries[i].nll = (n * tries[i].nll + m * score(tries[i], rest)) / (n + m);
    tries[i].finalist = true;
  }
  std::stable_sort(tries.begin(), tries.begin() + static_cast<int64_t>(finalists), better);
  return tries;
}

}  // namespace supra
