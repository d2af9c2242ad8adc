#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <optional>

#include "kernels/products.h"
#include "supra/evaluation/perplexity.h"
#include "supra/tokenizers/corpus.h"
#include "tools/command.h"
#include "tools/demo/held_out.h"
#include "tools/human.h"
#include "tools/interrupt.h"
#include "tools/output_folder.h"
#include "tools/demo/own_teacher.h"
#include "tools/plot/plot.h"
#include "tools/plot/png.h"
#include "tools/progress.h"
#include "tools/demo/students.h"
#include "tools/training_log.h"

// supra lab: compares changes of the layer or of the recipe. It trains students of one teacher on the same tokens in the same
// order and writes a table, a CSV and a picture.

namespace supra {
namespace {

// The distances in tokens at which recall is shown.
constexpr std::pair<int64_t, int64_t> kDistances[] = {{1, 32}, {33, 64}, {65, 128}, {129, INT64_MAX}};

constexpr const char* kNewWeights = "_totrain_";  // part of the names of all weights that linearization adds

struct Lab {
  Path teacher_path, tokenizer, train_text, valid_text, test_text, output = "build/lab";
  std::string separator = kStorySeparator;
  int64_t tokens = 1'000'000, seeds = 1;
  std::vector<std::string> students;
  bool study = false;
  Path tasks;              // of the study
  double budget = 0;       // seconds for all; 0: no limit
  std::vector<std::vector<int32_t>> valid, test;
  HeldOut stories;
  std::string csv = "student,seed,tokens,seconds,valid_nll,test_nll,recall_32,recall_64,recall_128,recall_far\n";
};

// The whole text, or a part of a large one, so that measuring stays cheap compared with training.
std::vector<std::vector<int32_t>> sequences_of(const Lab& lab, const Tokenizer& tokenizer, const Path& text, int64_t context) {
  constexpr int64_t kMost = 1 << 17;
  const auto all = read_sequences(tokenizer, text, {lab.separator, 0, 0, context, tokenizer.document_marks().begin >= 0});
  return spread_sample(all, std::min({predicted_tokens(all), kMost, std::max<int64_t>(1 << 14, lab.tokens / 8)}));
}

// The figures of a student in a row.
struct Score {
  double tokens = 0, seconds = 0, valid = 0, test = 0;
  double recall[std::size(kDistances)] = {};  // NaN if the stories have no such distance
};

// Thrown after Ctrl-C while a student is measured.
struct Stopped {};

Score measure(const Lab& lab, const std::string& name, const Decoder& decoder, int64_t tokens, double seconds) {
  Progress progress(name + " is measured, tokens", predicted_tokens(lab.valid) + predicted_tokens(lab.test));
  const auto nll_of = [&](const std::vector<std::vector<int32_t>>& text, int64_t before) {
    return evaluate(decoder, text, false, [&](int64_t done, int64_t) {
             if (interrupted()) throw Stopped{};
             progress.update(before + done);
           }).nll;
  };
  const double valid = nll_of(lab.valid, 0);
  Score score = {static_cast<double>(tokens), seconds, valid, nll_of(lab.test, predicted_tokens(lab.valid))};
  const std::vector<Recalled> spans = recalled(decoder, lab.stories.recall);
  for (size_t i = 0; i < std::size(kDistances); i++) {
    const int64_t least = kDistances[i].first, most = kDistances[i].second;
    const bool any = std::any_of(spans.begin(), spans.end(), [&](const Recalled& r) { return r.distance >= least && r.distance <= most; });
    score.recall[i] = any ? share_recalled(spans, least, most) : NAN;
  }
  return score;
}

Score mean(const std::vector<Score>& scores) {
  Score sum;
  const double part = 1 / static_cast<double>(scores.size());
  for (const Score& s : scores) {
    sum.tokens += part * s.tokens, sum.seconds += part * s.seconds, sum.valid += part * s.valid, sum.test += part * s.test;
    for (size_t i = 0; i < std::size(kDistances); i++) sum.recall[i] += part * s.recall[i];
  }
  return sum;
}

// A row of the table.
void show(const std::string& name, const std::string& seed, const Score& s) {
  printf("%-20s %4s %8s %7s   %.4f   %.4f  ", name.c_str(), seed.c_str(), format_count(s.tokens).c_str(),
         format_time(s.seconds).c_str(), s.valid, s.test);
  for (const double share : s.recall) printf(" %6s", std::isnan(share) ? "-" : format("%.0f %%", 100 * share).c_str());
  printf("\n");
  fflush(stdout);
}

// A row of the table and of the CSV.
void record(Lab& lab, const std::string& name, int64_t seed, const Score& s) {
  show(name, std::to_string(seed), s);
  lab.csv += format("%s,%ld,%.0f,%.1f,%.6f,%.6f", name.c_str(), static_cast<long>(seed), s.tokens, s.seconds, s.valid, s.test);
  for (const double share : s.recall) lab.csv += std::isnan(share) ? "," : format(",%.4f", share);
  lab.csv += "\n";
  write_file_atomically(lab.output / "lab.csv", lab.csv);
}

std::string run_name(const Lab& lab, const Student& s, int64_t seed) {
  return lab.seeds > 1 ? format("%s-%ld", s.name.c_str(), static_cast<long>(seed)) : s.name;
}

TrainOptions train_options(const Lab& lab, const Student& s, uint64_t seed, Decoder& student) {
  TrainOptions o;
  o.tokens = lab.tokens;
  o.seed = seed;
  o.validate_every = std::max<int64_t>(1, lab.tokens / 20);
  o.recipe.kind = s.recipe.value_or(RecipeKind::distill);
  o.recipe.transfer_share = s.transfer_share;
  if (s.trains == Student::Trains::new_weights) o.only = {kNewWeights};
  return resolve(o, student);
}

// Fits a student in closed form, without training.
void calibrate(Model& student, const Model& teacher, const Corpus& corpus, const TrainOptions& o) {
  BatchLoader loader(corpus, o.batch_tokens / o.sequence, o.sequence, o.seed);
  std::vector<Batch> batches;
  while (static_cast<int64_t>(batches.size()) * o.batch_tokens < o.recipe.calibrate_tokens) batches.push_back(loader.next());
  make_recipe(*student.decoder, teacher.decoder.get(), o.recipe).prepare(batches);
}

TrainResult train_student(const Lab& lab, const std::string& name, Model& student, const Model& teacher, const Corpus& corpus, const TrainOptions& o) {
  TrainingLog log(lab.output / (name + ".csv"));
  Progress progress(name, step_count(o));
  TrainHooks hooks;
  hooks.validate = [&](int64_t tokens) {
    return evaluate(*student.decoder, tokens > 0 ? spread_sample(lab.valid, tokens) : lab.valid).nll;
  };
  hooks.held_out_tokens = predicted_tokens(lab.valid);
  hooks.should_stop = interrupted;
  hooks.on_start = [&](int64_t step) { log.start(step); };
  hooks.on_step = [&](const TrainStep& step) {
    progress.update(step.step, format("%s loss %.3f | %s tok/s", step.stage.c_str(), step.loss, format_count(step.tokens_per_second).c_str()),
                    step.seconds_left);
    log.write(step);
  };
  const TrainResult result = train(student, teacher.decoder.get(), corpus, o, lab.output / name, hooks);
  progress.finish();
  return result;
}

// Makes and trains a student and leaves it in the folder of its name. Returns nothing if it was interrupted.
std::optional<Score> run_student(const Lab& lab, const Student& s, uint64_t seed, const Model& teacher, const Corpus& corpus) {
  const std::string name = run_name(lab, s, static_cast<int64_t>(seed));
  Model student = make_student(s, teacher, seed);
  TrainOptions o = train_options(lab, s, seed, *student.decoder);
  if (!s.recipe) {
    if (has_head_state(s.linear.mixer)) calibrate(student, teacher, corpus, o);
    save_model(student, lab.output / name);
    return measure(lab, name, *student.decoder, 0, 0);
  }
  TrainResult first;
  if (s.trains == Student::Trains::new_weights_first) {
    TrainOptions step = o;
    step.tokens = lab.tokens / 3;
    step.only = {kNewWeights};
    first = train_student(lab, name + "-first", student, teacher, corpus, step);
    o.tokens -= first.tokens;
  }
  if (first.interrupted) return {};
  const TrainResult result = train_student(lab, name, student, teacher, corpus, o);
  if (result.interrupted) return {};
  return measure(lab, name, *student.decoder, first.tokens + result.tokens, first.seconds + result.seconds);
}

// Runs all students of a name and shows them with their mean. False if it was interrupted.
bool run_seeds(Lab& lab, const Student& s, const Model& teacher, const Corpus& corpus) {
  std::vector<Score> scores;
  for (int64_t seed = 0; seed < lab.seeds; seed++) {
    const std::optional<Score> score = run_student(lab, s, static_cast<uint64_t>(seed), teacher, corpus);
    if (!score) return false;
    record(lab, s.name, seed, *score);
    scores.push_back(*score);
  }
  if (lab.seeds > 1) show(s.name, "mean", mean(scores));
  return true;
}

// The students to run: the named ones; by default the recipes, and in a study also the paper's ablations.
std::vector<Student> chosen(const Args& args, const std::vector<std::string>& names, bool study) {
  std::vector<Student> chosen;
  std::vector<std::string> known;
  for (const Student& s : students()) {
    known.push_back(s.name);
    const bool by_default = study || !s.in_study || s.name == "supra";
    if (names.empty() ? by_default : std::find(names.begin(), names.end(), s.name) != names.end()) chosen.push_back(s);
  }
  for (const std::string& name : names) {
    if (std::find(known.begin(), known.end(), name) == known.end())
      args.misused("--students: there is no %s%s; --help lists all names", name.c_str(), nearest_hint(name, known).c_str());
  }
  return chosen;
}

// Writes the table of supra compare for the teacher and the first seed of each student.
void compare_students(const Lab& lab, const std::vector<std::string>& students, bool show) {
  std::vector<std::string> words = {lab.teacher_path};
  for (const std::string& student : students) words.push_back(lab.output / student);
  words.insert(words.end(), {"--text", lab.test_text, "--docs", lab.separator, "-o", lab.output / "compare", "--context", "2048", "--limit", "100"});
  if (!show) words.push_back("--quiet");
  if (!lab.tasks.empty()) words.insert(words.end(), {"--tasks", lab.tasks});
  if (!lab.tokenizer.empty()) words.insert(words.end(), {"--tokenizer", lab.tokenizer});
  Args args("compare", "", std::move(words));
  // a comparison chooses its own
  const UseProducts as_before(products());
  CHECK(run_compare(args) == 0, "%s: the comparison was interrupted (the same command continues it)", lab.output.c_str());
}

// Runs all students, one after the other. A student that would exceed the time budget is left out, and so are all later ones,
// which take at least as long. False if it was interrupted.
bool run_students(Lab& lab, const std::vector<Student>& students, const Model& teacher, const Corpus& corpus) {
  using Clock = std::chrono::steady_clock;
  const auto seconds_since = [](Clock::time_point from) { return std::chrono::duration<double>(Clock::now() - from).count(); };
  const Clock::time_point start = Clock::now();
  std::vector<std::string> done;
  double longest = 0;
  for (const Student& student : students) {
    if (interrupted()) return false;
    if (lab.budget > 0 && !done.empty() && seconds_since(start) + longest > lab.budget) {
      print_note(format("%s and later students are left out: a student takes up to %s, and %s of the budget are left", student.name.c_str(),
                        format_time(longest).c_str(), format_time(std::max(0.0, lab.budget - seconds_since(start))).c_str()));
      break;
    }
    const Clock::time_point began = Clock::now();
    if (!run_seeds(lab, student, teacher, corpus)) return false;
    done.push_back(run_name(lab, student, 0));
    if (lab.study) compare_students(lab, done, false);
    longest = std::max(longest, seconds_since(began));
  }
  if (lab.study && !done.empty()) compare_students(lab, done, true);
  return true;
}

// Reads "30m", "90s" or "2h" as seconds.
double read_duration(const std::string& text) {
  size_t end = 0;
  double number = -1;
  try {
    number = std::stod(text, &end);
  } catch (const std::exception&) {
  }
  const std::string unit = number >= 0 ? text.substr(end) : "";
  const double factor = unit == "s" ? 1 : unit == "m" ? 60 : unit == "h" ? 3600 : 0;
  if (factor == 0) throw UsageError(format("expected a time like 30m, 90s or 2h, got '%s'", text.c_str()));
  return number * factor;
}

// If no text is given, writes stories of the demo's grammar.
void write_missing_texts(Lab& lab) {
  const auto write = [&](Path& text, const char* name, uint64_t seed, int64_t bytes) {
    if (text.empty()) text = write_story_file(lab.output / name, seed, bytes);
  };
  write(lab.train_text, "train.txt", kStudentStories, 4 * lab.tokens);
  write(lab.valid_text, "valid.txt", kValidStories, 40'000);
  write(lab.test_text, "test.txt", kHeldOutStories, 40'000);
}

// The validation curves of the trained students, with the first seed of each.
void draw(const Lab& lab, const std::vector<Student>& students, const Decoder& teacher) {
  std::vector<Path> logs;
  for (const Student& s : students)
    // a student that the budget left out has no log
    if (const Path log = lab.output / (run_name(lab, s, 0) + ".csv"); s.recipe && std::filesystem::exists(log)) logs.push_back(log);
  if (logs.empty()) return;
  PlotOptions plot;
  plot.y = {"valid_nll"};
  plot.teacher = evaluate(teacher, lab.valid).nll;
  plot.title = "Students of " + model_name(lab.teacher_path) + ", " + format_count(static_cast<double>(lab.tokens)) + " tokens each";
  plot_runs(logs, lab.output / "lab.png", plot);
}

}  // namespace

int run_lab(Args& args) {
  const char* given = std::getenv("SUPRA_SHARED");
  const Path shared = given ? given : "../shared", models = shared / "models/stories260K", texts = shared / "data/tinystories";
  Lab lab;
  lab.teacher_path = models / "stories260K.bin";
  if (std::filesystem::exists(lab.teacher_path) && std::filesystem::exists(texts)) {
    lab.tokenizer = models / "tok512.bin";
    lab.train_text = texts / "uptrain_train.txt";
    lab.valid_text = texts / "uptrain_valid.txt";
    lab.test_text = texts / "uptrain_test.txt";
  } else {
    lab.teacher_path.clear();
  }
  std::string names;
  for (const Student& s : students()) names += (names.empty() ? "" : ", ") + s.name;
  const std::string students_help = "students to train, some of " + names + "; by default the recipes, with --study also the options of the paper's ablations";
  args.flag(&lab.output, "--output -o", "DIR", "folder for the table, the CSVs, the picture and the students");
  args.flag(&lab.students, "--students", "NAME", students_help.c_str());
  args.tokens(&lab.tokens, "--tokens", "training tokens of each student");
  args.flag(&lab.seeds, "--seeds", "N", "number of runs of each student").at_least(1);
  const Flag& other = args.flag(&lab.teacher_path, "--teacher", "MODEL", "a softmax model, instead of the one that comes with supra");
  args.flag(&lab.tokenizer, "--tokenizer", "FILE", "the teacher's tokenizer, instead of the one beside it");
  args.flag(&lab.train_text, "--data", "FILE", "text to train on; default: stories of the demo's grammar");
  args.flag(&lab.valid_text, "--valid", "FILE", "text for validation; default: such stories");
  args.flag(&lab.test_text, "--test", "FILE", "text for the final measurement; default: such stories");
  args.flag(&lab.separator, "--docs", "SEP", "separator of documents");
  args.flag(&lab.study, "--study", "after each student, update a table of supra compare with the teacher and all students");
  args.flag(&lab.tasks, "--tasks", "FOLDER", "folder of task files for that table");
  args.call("--budget", "TIME", "time for all students: 30m, 2h. Students that would not finish in time are left out", "no limit",
            [&](const std::string& text) { lab.budget = read_duration(text); });
  common_flags(args);
  const Path own_tokenizer = lab.tokenizer;
  args.parse();
  if (other.given() && lab.tokenizer == own_tokenizer) lab.tokenizer.clear();
  const std::vector<Student> students = chosen(args, lab.students, lab.study);
  if (lab.teacher_path.empty()) lab.teacher_path = own_teacher();
  catch_interrupts();

  const auto start = std::chrono::steady_clock::now();
  make_output_folder(lab.output, {"lab.csv"});
  write_file_atomically(lab.output / "lab.csv", lab.csv);
  write_missing_texts(lab);
  const Model teacher = load_model(lab.teacher_path, lab.tokenizer.string(), Weights::stored);
  const Tokenizer& tokenizer = tokenizer_of(teacher);
  const int64_t context = std::min<int64_t>(teacher.config().context, 512);
  lab.valid = sequences_of(lab, tokenizer, lab.valid_text, context);
  lab.test = sequences_of(lab, tokenizer, lab.test_text, context);
  lab.stories = held_out_stories(tokenizer, 100, static_cast<size_t>(context));
  const Corpus corpus = read_corpus({lab.train_text}, tokenizer, lab.separator);
  printf("                                          nats a token      recalled at a distance of\n"
         "student              seed   tokens    time    valid     test     ..32  ..64 ..128  more\n");
  // the default of uptrain
  const UseProducts fast(products_asked_for() ? products() : fastest_products());
  try {
    record(lab, "teacher", 0, measure(lab, "teacher", *teacher.decoder, 0, 0));
    if (!run_students(lab, students, teacher, corpus)) return 1;
  } catch (const Stopped&) {
    fprintf(stderr, "stopped while a student was measured: lab.csv and the folders in %s hold those before it\n", lab.output.c_str());
    return 1;
  }
  const std::string no_png = why_no_png();
  if (no_png.empty()) draw(lab, students, *teacher.decoder);
  printf("all in %s; %s holds lab.csv, a folder for each student%s\n",
         format_time(std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count()).c_str(), lab.output.c_str(),
         no_png.empty() ? " and lab.png" : ("; no lab.png: " + no_png).c_str());
  return 0;
}

}  // namespace supra
