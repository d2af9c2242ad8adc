#include "supra/linearize.h"

#include <algorithm>
#include <cstdio>
#include <tuple>

#include "supra/evaluation/perplexity.h"
#include "supra/formats/json.h"
#include "supra/formats/parameters.h"
#include "supra/training/calibrate.h"
#include "supra/training/fit_far.h"
#include "supra/window_attention.h"
#include "tools/command.h"
#include "tools/device_flags.h"
#include "tools/human.h"
#include "tools/interrupt.h"
#include "tools/progress.h"
#include "tools/window_report.h"

namespace supra {
namespace {

// What windows are measured on.
struct BudgetFlags {
  std::optional<int64_t> state_bytes;
  Path text, sensitivity;  // one of them, or none
  int64_t tokens = 12000;

  bool measures() const { return !text.empty() || !sensitivity.empty(); }
  void check(const Args& args, bool windows_given) const {
    if (state_bytes.has_value() == text.empty()) args.misused("--state-bytes and --budget-text go together: the windows are chosen on that text");
    if (state_bytes && !sensitivity.empty()) args.misused("--sensitivity prints a table and stops; --state-bytes measures that table itself");
    if (windows_given && measures()) args.misused("give --window or %s, not both", state_bytes ? "--state-bytes" : "--sensitivity");
  }
};

void add_setting(std::vector<LayerSetting>& settings, const std::string& text, int64_t least) {
  settings.push_back(read_layer_setting(text));
  if (settings.back().value < least) throw UsageError("'" + text + "' is too small, at least " + std::to_string(least) + " is expected");
}

// Sequences from all over the text, about so many tokens: a third of them, and the others.
std::pair<Sequences, Sequences> read_two_parts(const Model& model, const Path& text, const std::string& separator, int64_t tokens) {
  TextOptions options;
  options.separator = separator;
  options.context = default_context(model.config());
  options.bos = tokenizer_of(model).adds_bos();
  const Sequences sample = spread_sample(read_sequences(tokenizer_of(model), text, options), tokens);
  std::pair<Sequences, Sequences> parts;
  for (size_t i = 0; i < sample.size(); i++) (i % 3 == 0 ? parts.first : parts.second).push_back(sample[i]);
  CHECK(!parts.second.empty(), "%s: is one sequence of %ld tokens, two or more are needed (give a longer text, or more --budget-tokens)", text.c_str(),
        static_cast<long>(predicted_tokens(sample)));
  return parts;
}

struct ChosenWindows {
  Sensitivity sensitivity;
  std::vector<WindowTry> tries;  // the best first; empty where the sensitivity alone was asked for
};

// The windows of the student are the most that its layers may have.
ChosenWindows choose_windows(const Model& student, const BudgetFlags& budget, const std::string& separator) {
  Decoder& decoder = *student.decoder;
  const auto [measured, apart] = read_two_parts(student, budget.sensitivity.empty() ? budget.text : budget.sensitivity, separator, budget.tokens);
  ChosenWindows chosen;
  // made when the amount of work is known
  const auto show = [](const char* what, std::optional<Progress>& progress) {
    return [=, &progress](int64_t done, int64_t total) {
      if (!progress) progress.emplace(what, total);
      progress->update(done);
    };
  };
  if (budget.state_bytes) check_state_bytes(student.config(), *budget.state_bytes);
  std::optional<Progress> measuring, trying;
  chosen.sensitivity = measure_sensitivity(decoder, measured, show("what layers gain", measuring));
  measuring.reset();
  if (!budget.state_bytes) return chosen;
  const auto tries = window_allocations(student.config(), *budget.state_bytes, chosen.sensitivity);
  chosen.tries = try_allocations(decoder, tries, apart, show("windows tried", trying));
  return chosen;
}

struct FitFlags {
  Path text;
  int64_t tokens = 200'000, epochs = 5;
};

struct Fitted {
  Fit fit;
  Correction correction;
};

// Rows of the text, each of it once.
std::vector<Batch> read_rows(const Model& model, const FitFlags& flags, const std::string& separator, uint64_t seed) {
  constexpr int64_t kBatchTokens = 2048;
  const Corpus corpus = read_corpus({flags.text}, tokenizer_of(model), separator);
  const int64_t T = default_context(model.config()), rows = std::max<int64_t>(1, kBatchTokens / T);
  BatchLoader loader(corpus, rows, T, seed);
  std::vector<Batch> batches;
  for (int64_t left = std::min(flags.tokens, corpus.tokens()); left >= rows * T; left -= rows * T) batches.push_back(loader.next());
  return batches;
}

// Fits the student's far parts, leaves out those that do not pay, and corrects its output projections; `file` holds what was
// fitted until it is removed. Nothing when it was interrupted.
std::optional<Fitted> fit_student(Linearized& result, const Decoder& teacher, const std::vector<Batch>& batches, const FitOptions& options) {
  constexpr size_t kCorrectionBatches = 16;
  std::shared_ptr<Decoder>& student = result.model.decoder;
  std::optional<Progress> progress;
  FitHooks hooks;
  hooks.should_stop = interrupted;
  hooks.on_epoch = [&](int64_t done, int64_t of, const FittedLayer& layer) {
    if (!progress) progress.emplace("fit", of).start_at(done - 1);
    progress->update(done, format("layer %ld, error %.4f of %.4f", static_cast<long>(layer.layer), layer.after, layer.before));
  };
  catch_interrupts();
  Fitted fitted{fit_far(*student, teacher, batches, options, hooks), {}};
  if (fitted.fit.interrupted) return {};
  const int64_t parameters = student->parameter_count();
  student = with_mixers(*student, fitted.fit.config);
  result.fresh_parameters -= parameters - student->parameter_count();
  result.fresh.clear();
  student->visit([&](const std::string& name, Var&) {
    if (std::find(result.copied.begin(), result.copied.end(), name) == result.copied.end()) result.fresh.push_back(name);
  });
  fitted.correction = correct_projections(*student, teacher, {batches.begin(), batches.begin() + std::min(batches.size(), kCorrectionBatches)});
  return fitted;
}

// Of so many parameters a SUPRA student needs far more training than most can give.
void recommend_windows(Linearized& result, const Path& input, const Decoder& teacher, int64_t parameters) {
  if (parameters <= 50'000'000) return;
  const double bytes = 195 * static_cast<double>(teacher.state_bytes(1));
  result.notes.push_back(format("of this size windows keep a student near its teacher without training, in constant memory; without them "
                                "it takes very long: supra linearize %s -o DIR --mixer window --state-bytes %.0fM --budget-text TEXT",
                                input.c_str(), std::max(1.0, bytes / 1e6)));
}

}  // namespace

int run_linearize(Args& args) {
  Path input, output;
  std::string tokenizer;
  LinearizeOptions options;
  Path calibration_text;
  std::string separator;
  std::optional<int64_t> calibration_tokens;
  Calibration calibration = Calibration::ridge;
  bool json = false;
  DeviceFlags device;
  std::pair mixer(MixerKind::supra, DecayConfig::Source::fixed);
  std::pair rope(options.rotates, options.rope_before_map);
  using Map = LinearizeOptions::FeatureMap;
  BudgetFlags budget;
  FitFlags fit;
  // what says nothing of the other mixers' layers
  std::vector<const Flag*> of_supra, of_decay, of_window, of_fit, of_budget;
  const auto only = [](std::vector<const Flag*>& flags, Flag& flag) -> Flag& { return flags.push_back(&flag), flag; };
  args.positional(&input, "MODEL", "a softmax transformer: a folder or a file");
  args.flag(&output, "--output -o", "DIR", "folder of the student");
  args.choice(&mixer, "--mixer",
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

  only(of_window, args.call("--window", "W[:LAYERS]",
                            "number of last keys that a window layer sees: 114 for all layers, 512:17,20-24 for some; may be repeated",
                            "256", [&](const std::string& text) { add_setting(options.windows, text, 1); }));
  only(of_window, args.flag(&options.sinks, "--sinks", "S", "number of first keys of a text that a window layer always sees").at_least(0));
  only(of_window, args.call("--far-features", "F[:LAYERS]",
                            "size of the state for older keys, an even number; 0: none; layers as in --window", "0",
                            [&](const std::string& text) { add_setting(options.far_features, text, 0); }));
  only(of_window, args.choice(&options.state_dtype, "--state-dtype", {{"f32", Dtype::f32}, {"f16", Dtype::f16}},
                              "type of the keys and values that a window layer stores"));
  only(of_window, args.tokens(&budget.state_bytes, "--state-bytes",
                              "choose windows that predict --budget-text best with this many bytes per sequence, such as 9M"));
  only(of_window, args.flag(&budget.text, "--budget-text", "TEXT",
                            "text for choosing the windows; it should be like the text that the model will read"));
  only(of_budget, only(of_window, args.tokens(&budget.tokens, "--budget-tokens",
                              "tokens of that text; a third measures the layers, the rest compares windows").at_least(1)));
  only(of_window, args.flag(&budget.sensitivity, "--sensitivity", "TEXT", "print how much each layer gains from a longer window, and stop"));

  only(of_window, args.flag(&fit.text, "--fit", "TEXT",
                            "train the far states on this text, drop those that do not help, then correct the output projections"));
  only(of_fit, only(of_window, args.tokens(&fit.tokens, "--fit-tokens", "number of tokens of the text to use")));
  only(of_fit, only(of_window, args.flag(&fit.epochs, "--fit-epochs", "N", "passes over the text for each layer").at_least(1)));

  Flag& init = only(of_supra, args.choice(&options.init, "--init",
                             {{"default", LinearizeOptions::Init::standard}, {"identity", LinearizeOptions::Init::identity}},
                             "initial feature maps: random as in torch.nn.Linear, or relu(q)"));
  only(of_decay, only(of_supra, args.choice(&options.decay.kind, "--decay",
                             {{"lightning", DecayConfig::Kind::lightning}, {"retnet", DecayConfig::Kind::retnet}, {"none", DecayConfig::Kind::none}},
                             "slopes of the decay, fixed per head")));
  only(of_decay, only(of_supra, args.flag(&options.decay.start, "--decay-start", "X", "first slope of a lightning decay")));
  only(of_supra, args.flag(&options.key_dim, "--key-dim", "N",
                           "features per head, the rows of its state; 0: the size of its queries").at_least(0));
  only(of_supra, args.choice(&rope, "--rope", {{"after-map", {true, false}}, {"before-map", {true, true}}, {"none", {false, false}}},
                             "where q and k are rotated"));
  only(of_supra, args.choice(&options.output_norm, "--output-norm",
                             {{"group", OutputNorm::group}, {"denominator", OutputNorm::denominator}, {"none", OutputNorm::none}},
                             "norm of a head's outputs: the paper's GroupNorm, the default of supra; T2R's sum of weights; or none, the default of delta"));
  only(of_supra, args.flag(&options.output_gate, "--output-gate", "multiply the outputs by a gate, which is open at first"));
  Flag& convolution = only(of_supra, args.flag(&options.short_convolution, "--short-convolution",
                                               "mix queries, keys and values of a delta layer with those of the three previous steps"));
  only(of_supra, args.flag(&options.qk_norm, "--qk-norm", "normalise queries and keys after the feature maps"));
  only(of_supra, args.choice(&options.feature_map, "--feature-map",
                             {{"full", Map::full}, {"per-head", Map::per_head}, {"none", Map::none}},
                             "feature map of q and k: one that mixes the heads, the default of supra; one per head; or none, the default of delta"));
  only(of_supra, args.flag(&calibration_text, "--calibrate", "TEXT",
                           "fit the output projections to the teacher's outputs on this text, in closed form"));
  only(of_supra, args.choice(&calibration, "--calibration", {{"ridge", Calibration::ridge}, {"heads", Calibration::heads}},
                             "fit the whole output projection, or one number per head"));
  only(of_supra, args.tokens(&calibration_tokens, "--calibrate-tokens", "number of tokens of the text to use; default: by the model's size, 8192 or more").at_least(1));
  device.declare(args);
  common_flags(args, &json);
  args.parse();
  device.check(args);
  const bool window = mixer.first == MixerKind::window;
  const bool delta = mixer.first == MixerKind::delta;
  const auto refuse = [&](const std::vector<const Flag*>& flags, const char* where) {
    for (const Flag* flag : flags) {
      if (flag->given()) args.misused("%s has no effect %s", flag->name().c_str(), where);
    }
  };
  if (window) refuse(of_supra, "on --mixer window");
  else refuse(of_window, "without --mixer window");
  if (!window && !delta) refuse({&convolution}, "without --mixer delta");
  if (options.feature_map.value_or(delta && options.key_dim == 0 ? Map::none : Map::full) == Map::none) refuse({&init}, "without a feature map");
  if (delta) refuse(of_decay, "on --mixer delta, whose decays start from the teacher's attention");
  if (fit.text.empty()) refuse(of_fit, "without --fit");
  if (!budget.measures()) refuse(of_budget, "without --budget-text or --sensitivity");
  budget.check(args, of_window[0]->given());
  if (output.empty() && budget.sensitivity.empty()) args.misused("--output is missing: the folder of the student");
  options.mixer = mixer.first;
  options.decay.source = mixer.second;
  std::tie(options.rotates, options.rope_before_map) = rope;

  std::error_code absent;
  CHECK(!std::filesystem::equivalent(input, output, absent),
        "%s: is the model itself, and would be overwritten (give another --output)", output.c_str());
  const Model teacher = load_model(input, tokenizer);
  if (budget.measures()) options.windows = {{teacher.config().context}};
  Linearized result = linearize(teacher, options);
  const std::shared_ptr<Decoder> widest = result.model.decoder;
  ChosenWindows chosen;
  if (budget.measures()) {
    device.move(*widest);
    chosen = choose_windows(result.model, budget, separator);
    if (!budget.state_bytes) {
      if (json) printf("%s\n", to_json(chosen.sensitivity, widest->config()).dump().c_str());
      else print_sensitivity(widest->config(), chosen.sensitivity);
      return 0;
    }
    Config config = widest->config();
    config.windows = chosen.tries[0].windows;
    result.model.decoder = with_mixers(*widest, config);
  }
  std::optional<Fitted> fitted;
  // of a name that ends with a slash, too
  const Path fit_file = (output / "").parent_path().string() + ".fit";
  if (!fit.text.empty()) {
    make_directories(std::filesystem::absolute(fit_file).parent_path());
    FitOptions fit_options = {.epochs = fit.epochs, .seed = options.seed, .file = fit_file, .origin = to_text(fingerprint_of(*result.model.decoder, 0))};
    device.move(*teacher.decoder);
    device.move(*result.model.decoder);
    fitted = fit_student(result, *teacher.decoder, read_rows(teacher, fit, separator, options.seed), fit_options);
    if (!fitted) {
      if (std::filesystem::exists(fit_file))
        fprintf(stderr, "interrupted; the layers that were fitted are in %s, and the same command goes on from them\n", fit_file.c_str());
      else
        fprintf(stderr, "interrupted before the first layer was fitted; nothing was written\n");
      return 1;
    }
  }
  const Config& config = result.model.config();
  const size_t state = result.model.decoder->state_bytes(window ? 0 : 1), cache = teacher.decoder->state_bytes(1);
  if (!calibration_text.empty()) {
    const Corpus corpus = read_corpus({calibration_text}, tokenizer_of(teacher), separator);
    const int64_t T = std::min<int64_t>(512, teacher.config().context), rows = 4;
    BatchLoader loader(corpus, rows, T, options.seed);
    std::vector<Batch> batches;
    const int64_t wanted = calibration_tokens.value_or(default_calibration_tokens(config));
    for (int64_t tokens = 0; tokens < wanted; tokens += rows * T) batches.push_back(loader.next());
    device.move(*teacher.decoder);
    device.move(*result.model.decoder);
    calibrate(*result.model.decoder, *teacher.decoder, batches, calibration);
  }
  save_model(result.model, output);
  if (fitted) std::filesystem::remove(fit_file);

  const int64_t total = result.copied_parameters + result.fresh_parameters;
  const std::vector<int64_t> growing = layers_with(config, MixerKind::softmax);
  if (window && !growing.empty()) {
    result.notes.push_back("the state grows with the text in layers " + format_layers(growing) +
                           ", which keep their softmax: its bytes are those of the others");
  }
  if (!window) recommend_windows(result, input, *teacher.decoder, total);
  if (json) {
    Json report = Json::object();
    report.set("parameters", total);
    report.set("copied", result.copied_parameters);
    report.set("new", result.fresh_parameters);
    report.set("state_bytes", static_cast<int64_t>(state));
    if (window) report.set("layers", window_rows(config, fitted ? &fitted->fit : nullptr));
    if (budget.measures()) {
      report.set("sensitivity", to_json(chosen.sensitivity, config));
      report.set("tries", to_json(chosen.tries));
    }
    if (fitted) report.set("correction", to_json(fitted->correction));
    Json notes = Json::array();
    for (const std::string& note : result.notes) notes.push(note);
    report.set("notes", std::move(notes));
    report.set("output", output.string());
    printf("%s\n", report.dump().c_str());
    return 0;
  }
  if (budget.measures()) {
    print_sensitivity(config, chosen.sensitivity);
    print_tries(config, chosen.tries);
  }
  if (fitted) print_fit(fitted->fit, fitted->correction);
  if (!calibration_text.empty()) printf("fitted  the output projections, to the teacher's outputs on %s\n", calibration_text.c_str());
  printf("copied  %4zu tensors, %s parameters\n", result.copied.size(), format_count(static_cast<double>(result.copied_parameters)).c_str());
  printf("new     %4zu tensors, %s parameters\n", result.fresh.size(), format_count(static_cast<double>(result.fresh_parameters)).c_str());
  for (const std::string& line : describe_windows(config)) printf("window  %s\n", line.c_str());
  for (const std::string& note : result.notes) printf("note    %s\n", note.c_str());
  const Decoder& student = *result.model.decoder;
  printf("state   %s (the teacher's KV cache takes %s a token)\n",
         format_state(static_cast<double>(student.state_bytes(0)), static_cast<double>(student.state_bytes(1))).c_str(),
         format_bytes(static_cast<double>(cache)).c_str());
  const char *made = output.c_str(), *from = input.c_str();
  if (window) {
    printf("wrote   %s   (it writes sense at once: supra generate %s -p TEXT; closer still to its teacher: supra uptrain %s -o DIR --recipe distill "
           "--teacher %s --data FILE --tokens 200k)\n", made, made, made, from);
  } else {
    printf("wrote   %s   (it speaks nonsense until it is uptrained: supra uptrain %s -o DIR --data FILE --tokens 3M)\n", made, made);
  }
  return 0;
}

}  // namespace supra
