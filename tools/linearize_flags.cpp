#include "tools/linearize_flags.h"

#include <tuple>

#include "tools/command.h"
#include "tools/window_report.h"

namespace supra {

using Map = LinearizeOptions::FeatureMap;

static void add_setting(std::vector<LayerSetting>& settings, const std::string& text, int64_t least) {
  settings.push_back(read_layer_setting(text));
  if (settings.back().value < least) throw UsageError("'" + text + "' is too small, at least " + std::to_string(least) + " is expected");
}

static Flag& only(std::vector<const Flag*>& flags, Flag& flag) { return flags.push_back(&flag), flag; }

void LinearizeFlags::declare_common(Args& args) {
  args.positional(&input, "MODEL", "a softmax transformer: a folder or a file");
  args.flag(&output, "--output -o", "DIR", "folder of the student");
  args.choice(&mixer_, "--mixer",
              {{"supra", {MixerKind::supra, DecayConfig::Source::fixed}},
               {"gated", {MixerKind::supra, DecayConfig::Source::gated}},
               {"learned-decay", {MixerKind::supra, DecayConfig::Source::learned}},
               {"delta", {MixerKind::delta, DecayConfig::Source::gated}},
               {"window", {MixerKind::window, DecayConfig::Source::fixed}}},
              "supra: a state with fixed decays (the paper's); gated: a decay per token; learned-decay: one learned decay per "
              "head; delta: a state that overwrites what a key held (the gated delta rule); window: softmax over the first and the last keys");
  args.flag(&options.keep_softmax, "--keep-softmax", "0,5", "layers that keep their softmax attention");
  args.flag(&separator, "--docs", "SEP", "separator of documents in a text; without it the text is one document");
  args.flag(&options.seed, "--seed", "N", "random seed of new weights");
  args.flag(&tokenizer, "--tokenizer", "FILE", "tokenizer to copy, instead of the one beside MODEL");
}

void LinearizeFlags::declare_window(Args& args) {
  only(of_window_, args.call("--window", "W[:LAYERS]",
                            "number of last keys that a window layer sees: 114 for all layers, 512:17,20-24 for some; may be repeated",
                            "256", [&](const std::string& text) { add_setting(options.windows, text, 1); }));
  only(of_window_, args.flag(&options.sinks, "--sinks", "S", "number of first keys of a text that a window layer always sees").at_least(0));
  only(of_window_, args.call("--far-features", "F[:LAYERS]",
                            "size of the state for older keys, an even number; 0: none; layers as in --window", "0",
                            [&](const std::string& text) { add_setting(options.far_features, text, 0); }));
  only(of_window_, args.choice(&options.state_dtype, "--state-dtype", {{"f32", Dtype::f32}, {"f16", Dtype::f16}},
                              "type of the keys and values that a window layer stores"));
  only(of_window_, args.tokens(&budget.state_bytes, "--state-bytes",
                              "choose windows that predict --budget-text best with this many bytes per sequence, such as 9M"));
  only(of_window_, args.flag(&budget.text, "--budget-text", "TEXT",
                            "text for choosing the windows; it should be like the text that the model will read"));
  only(of_budget_, only(of_window_, args.tokens(&budget.tokens, "--budget-tokens",
                              "tokens of that text; a third measures the layers, the rest compares windows").at_least(1)));
  only(of_window_, args.flag(&budget.sensitivity, "--sensitivity", "TEXT", "print how much each layer gains from a longer window, and stop"));

  only(of_window_, args.flag(&fit.text, "--fit", "TEXT",
                            "train the far states on this text, drop those that do not help, then correct the output projections"));
  only(of_fit_, only(of_window_, args.tokens(&fit.tokens, "--fit-tokens", "number of tokens of the text to use")));
  only(of_fit_, only(of_window_, args.flag(&fit.epochs, "--fit-epochs", "N", "passes over the text for each layer").at_least(1)));
}

void LinearizeFlags::declare_state(Args& args) {
  init_ = &only(of_state_, args.choice(&options.init, "--init",
                             {{"default", LinearizeOptions::Init::standard}, {"identity", LinearizeOptions::Init::identity}},
                             "initial feature maps: random as in torch.nn.Linear, or relu(q)"));
  only(of_decay_, only(of_state_, args.choice(&options.decay.kind, "--decay",
                             {{"lightning", DecayConfig::Kind::lightning}, {"retnet", DecayConfig::Kind::retnet}, {"none", DecayConfig::Kind::none}},
                             "slopes of the decay, fixed per head")));
  only(of_decay_, only(of_state_, args.flag(&options.decay.start, "--decay-start", "X", "first slope of a lightning decay")));
  only(of_state_, args.flag(&options.key_dim, "--key-dim", "N",
                           "features per head, the rows of its state; 0: the size of its queries").at_least(0));
  only(of_state_, args.choice(&rope_, "--rope", {{"after-map", {true, false}}, {"before-map", {true, true}}, {"none", {false, false}}},
                             "where q and k are rotated"));
  only(of_state_, args.choice(&options.output_norm, "--output-norm",
                             {{"group", OutputNorm::group}, {"denominator", OutputNorm::denominator}, {"none", OutputNorm::none}},
                             "norm of a head's outputs: the paper's GroupNorm, the default of supra; T2R's sum of weights; or none, the default of delta"));
  only(of_state_, args.flag(&options.output_gate, "--output-gate", "multiply the outputs by a gate, which is open at first"));
  convolution_ = &only(of_state_, args.flag(&options.short_convolution, "--short-convolution",
                                               "mix queries, keys and values of a delta layer with those of the three previous steps"));
  only(of_state_, args.flag(&options.qk_norm, "--qk-norm", "normalise queries and keys after the feature maps"));
  only(of_state_, args.choice(&options.feature_map, "--feature-map",
                             {{"full", Map::full}, {"per-head", Map::per_head}, {"none", Map::none}},
                             "feature map of q and k: one that mixes the heads, the default of supra; one per head; or none, the default of delta"));
  only(of_state_, args.flag(&calibration.text, "--calibrate", "TEXT",
                           "fit the output projections to the teacher's outputs on this text, in closed form"));
  only(of_state_, args.choice(&calibration.kind, "--calibration", {{"ridge", Calibration::ridge}, {"heads", Calibration::heads}},
                             "fit the whole output projection, or one number per head"));
  only(of_state_, args.tokens(&calibration.tokens, "--calibrate-tokens", "number of tokens of the text to use; default: by the model's size, 8192 or more").at_least(1));
}

void LinearizeFlags::check(const Args& args) const {
  const bool delta = options.mixer == MixerKind::delta;
  const auto refuse = [&](const Flags& flags, const char* where) {
    for (const Flag* flag : flags) {
      if (flag->given()) args.misused("%s has no effect %s", flag->name().c_str(), where);
    }
  };
  if (window()) refuse(of_state_, "on --mixer window");
  else refuse(of_window_, "without --mixer window");
  if (!window() && !delta) refuse({convolution_}, "without --mixer delta");
  if (options.feature_map.value_or(delta && options.key_dim == 0 ? Map::none : Map::full) == Map::none) refuse({init_}, "without a feature map");
  if (delta) refuse(of_decay_, "on --mixer delta, whose decays start from the teacher's attention");
  if (fit.text.empty()) refuse(of_fit_, "without --fit");
  if (!budget.measures()) refuse(of_budget_, "without --budget-text or --sensitivity");
  if (budget.state_bytes.has_value() == budget.text.empty())
    args.misused("--state-bytes and --budget-text go together: the windows are chosen on that text");
  if (budget.state_bytes && !budget.sensitivity.empty())
    args.misused("--sensitivity prints a table and stops; --state-bytes measures that table itself");
  if (of_window_[0]->given() && budget.measures())
    args.misused("give --window or %s, not both", budget.state_bytes ? "--state-bytes" : "--sensitivity");
  if (output.empty() && budget.sensitivity.empty()) args.misused("--output is missing: the folder of the student");
}

void LinearizeFlags::read(Args& args) {
  declare_common(args);
  declare_window(args);
  declare_state(args);
  device.declare(args);
  common_flags(args, &json);
  args.parse();
  device.check(args);
  std::tie(options.mixer, options.decay.source) = mixer_;
  std::tie(options.rotates, options.rope_before_map) = rope_;
  check(args);
}

}  // namespace supra
