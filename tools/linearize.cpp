#include "supra/linearize.h"

#include <algorithm>
#include <cstdio>

#include "supra/evaluation/perplexity.h"
#include "supra/formats/parse/json.h"
#include "supra/formats/parameters.h"
#include "supra/training/calibrate.h"
#include "supra/training/fit_far.h"
#include "supra/window_attention.h"
#include "tools/command.h"
#include "tools/human.h"
#include "tools/interrupt.h"
#include "tools/linearize_flags.h"
#include "tools/progress.h"
#include "tools/window_report.h"

namespace supra {
namespace {

// Sequences from all over the text, about `tokens` in all, in two parts: a third of them, and the others.
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

// The student has the largest windows that its layers may get.
ChosenWindows choose_windows(const Model& student, const BudgetFlags& budget, const std::string& separator) {
  Decoder& decoder = *student.decoder;
  const auto [measured, apart] = read_two_parts(student, budget.sensitivity.empty() ? budget.text : budget.sensitivity, separator, budget.tokens);
  ChosenWindows chosen;
  // a line of progress is created when the amount of work is known
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

struct Fitted {
  Fit fit;
  Correction correction;
};

// The text in batches of rows, each row once.
std::vector<Batch> read_rows(const Model& model, const FitFlags& flags, const std::string& separator, uint64_t seed) {
  constexpr int64_t kBatchTokens = 2048;
  const Corpus corpus = read_corpus({flags.text}, tokenizer_of(model), separator);
  const int64_t T = default_context(model.config()), rows = std::max<int64_t>(1, kBatchTokens / T);
  BatchLoader loader(corpus, rows, T, seed);
  std::vector<Batch> batches;
  for (int64_t left = std::min(flags.tokens, corpus.tokens()); left >= rows * T; left -= rows * T) batches.push_back(loader.next());
  return batches;
}

// Fits the student's far parts, removes those that do not help, and corrects its output projections. Returns nothing if it was
// interrupted; the fitted layers are then in options.file.
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

// Recommends a window student if the model is large: a SUPRA student of its size needs very long training.
void recommend_windows(Linearized& result, const Path& input, const Decoder& teacher) {
  if (result.copied_parameters + result.fresh_parameters <= 50'000'000) return;
  const double bytes = 195 * static_cast<double>(teacher.state_bytes(1));
  result.notes.push_back(format("of this size windows keep a student near its teacher without training, in constant memory; without them "
                                "it takes very long: supra linearize %s -o DIR --mixer window --state-bytes %.0fM --budget-text TEXT",
                                input.c_str(), std::max(1.0, bytes / 1e6)));
}

void calibrate_student(const Linearized& result, const Model& teacher, const LinearizeFlags& f) {
  const Corpus corpus = read_corpus({f.calibration.text}, tokenizer_of(teacher), f.separator);
  const int64_t T = std::min<int64_t>(512, teacher.config().context), rows = 4;
  const int64_t wanted = f.calibration.tokens.value_or(default_calibration_tokens(result.model.config()));
  BatchLoader loader(corpus, rows, T, f.options.seed);
  std::vector<Batch> batches;
  for (int64_t tokens = 0; tokens < wanted; tokens += rows * T) batches.push_back(loader.next());
  f.device.move(*teacher.decoder);
  f.device.move(*result.model.decoder);
  calibrate(*result.model.decoder, *teacher.decoder, batches, f.calibration.kind);
}

// The report of a student that was made.
struct Report {
  const LinearizeFlags& flags;
  const Linearized& result;
  const ChosenWindows& chosen;
  const std::optional<Fitted>& fitted;
  size_t state, cache;  // bytes of the student's state, and of the teacher's cache a token, as they run on the CPU

  void print_json() const;
  void print() const;
};

void Report::print_json() const {
  const Config& config = result.model.config();
  Json report = Json::object({{"parameters", result.copied_parameters + result.fresh_parameters},
                              {"copied", result.copied_parameters},
                              {"new", result.fresh_parameters},
                              {"state_bytes", static_cast<int64_t>(state)}});
  if (flags.window()) report.set("layers", window_rows(config, fitted ? &fitted->fit : nullptr));
  if (flags.budget.measures()) {
    report.set("sensitivity", to_json(chosen.sensitivity, config));
    report.set("tries", to_json(chosen.tries));
  }
  if (fitted) report.set("correction", to_json(fitted->correction));
  Json notes = Json::array();
  for (const std::string& note : result.notes) notes.push(note);
  report.set("notes", std::move(notes));
  report.set("output", flags.output.string());
  printf("%s\n", report.dump().c_str());
}

void Report::print() const {
  const Decoder& student = *result.model.decoder;
  if (flags.budget.measures()) {
    print_sensitivity(student.config(), chosen.sensitivity);
    print_tries(student.config(), chosen.tries);
  }
  if (fitted) print_fit(fitted->fit, fitted->correction);
  if (!flags.calibration.text.empty()) printf("fitted  the output projections, to the teacher's outputs on %s\n", flags.calibration.text.c_str());
  printf("copied  %4zu tensors, %s parameters\n", result.copied.size(), format_count(static_cast<double>(result.copied_parameters)).c_str());
  printf("new     %4zu tensors, %s parameters\n", result.fresh.size(), format_count(static_cast<double>(result.fresh_parameters)).c_str());
  for (const std::string& line : describe_windows(student.config())) printf("window  %s\n", line.c_str());
  for (const std::string& note : result.notes) printf("note    %s\n", note.c_str());
  printf("state   %s (the teacher's KV cache takes %s a token)\n",
         format_state(static_cast<double>(student.state_bytes(0)), static_cast<double>(student.state_bytes(1))).c_str(),
         format_bytes(static_cast<double>(cache)).c_str());
  const char *made = flags.output.c_str(), *from = flags.input.c_str();
  if (flags.window()) {
    printf("wrote   %s   (it writes sense at once: supra generate %s -p TEXT; closer still to its teacher: supra uptrain %s -o DIR --recipe distill "
           "--teacher %s --data FILE --tokens 200k)\n", made, made, made, from);
  } else {
    printf("wrote   %s   (it speaks nonsense until it is uptrained: supra uptrain %s -o DIR --data FILE --tokens 3M)\n", made, made);
  }
}

}  // namespace

int run_linearize(Args& args) {
  LinearizeFlags f;
  f.read(args);
  std::error_code absent;
  CHECK(!std::filesystem::equivalent(f.input, f.output, absent),
        "%s: is the model itself, and would be overwritten (give another --output)", f.output.c_str());
  const Model teacher = load_model(f.input, f.tokenizer);
  if (f.budget.measures()) f.options.windows = {{teacher.config().context}};
  Linearized result = linearize(teacher, f.options);
  const std::shared_ptr<Decoder> widest = result.model.decoder;
  ChosenWindows chosen;
  if (f.budget.measures()) {
    f.device.move(*widest);
    chosen = choose_windows(result.model, f.budget, f.separator);
    if (!f.budget.state_bytes) {
      if (f.json) printf("%s\n", to_json(chosen.sensitivity, widest->config()).dump().c_str());
      else print_sensitivity(widest->config(), chosen.sensitivity);
      return 0;
    }
    Config config = widest->config();
    config.windows = chosen.tries[0].windows;
    result.model.decoder = with_mixers(*widest, config);
  }
  std::optional<Fitted> fitted;
  // for a name that ends with a slash, too
  const Path fit_file = (f.output / "").parent_path().string() + ".fit";
  if (!f.fit.text.empty()) {
    make_directories(std::filesystem::absolute(fit_file).parent_path());
    FitOptions fit_options = {.epochs = f.fit.epochs, .seed = f.options.seed, .file = fit_file, .origin = to_text(fingerprint_of(*result.model.decoder, 0))};
    f.device.move(*teacher.decoder);
    f.device.move(*result.model.decoder);
    fitted = fit_student(result, *teacher.decoder, read_rows(teacher, f.fit, f.separator, f.options.seed), fit_options);
    if (!fitted) {
      if (std::filesystem::exists(fit_file))
        fprintf(stderr, "interrupted; the layers that were fitted are in %s, and the same command goes on from them\n", fit_file.c_str());
      else
        fprintf(stderr, "interrupted before the first layer was fitted; nothing was written\n");
      return 1;
    }
  }
  const size_t state = result.model.decoder->state_bytes(f.window() ? 0 : 1), cache = teacher.decoder->state_bytes(1);
  if (!f.calibration.text.empty()) calibrate_student(result, teacher, f);
  save_model(result.model, f.output);
  if (fitted) std::filesystem::remove(fit_file);

  const std::vector<int64_t> growing = layers_with(result.model.config(), MixerKind::softmax);
  if (f.window() && !growing.empty()) {
    result.notes.push_back("the state grows with the text in layers " + format_layers(growing) +
                           ", which keep their softmax: its bytes are those of the others");
  }
  if (!f.window()) recommend_windows(result, f.input, *teacher.decoder);
  const Report report{f, result, chosen, fitted, state, cache};
  if (f.json) report.print_json();
  else report.print();
  return 0;
}

}  // namespace supra
