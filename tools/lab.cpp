#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <optional>

#include "supra/evaluation/perplexity.h"
#include "supra/linearize.h"
#include "supra/training/train.h"
#include "tools/command.h"
#include "tools/held_out.h"
#include "tools/human.h"
#include "tools/interrupt.h"
#include "tools/plot.h"
#include "tools/progress.h"
#include "tools/training_log.h"

// supra lab: what a change of the layer or of the recipe is worth. Students of one teacher, each trained on the same tokens
// in the same order, as one table, one CSV and one picture.

namespace supra {
namespace {

using Source = DecayConfig::Source;

// The students: a row each.
struct Student {
  const char* name;
  bool identity;  // feature maps at first
  Source decay;
  int64_t key_dim;  // features of a head over what its queries have; 1: as many
  bool output_gate;
  std::optional<RecipeKind> recipe;  // none: calibrated, not trained
  double transfer_share;
};

const Student kStudents[] = {
    {"calibrated", true, Source::fixed, 1, false, {}, 0},
    {"supra", false, Source::fixed, 1, false, RecipeKind::supra, 0},
    {"transfer", true, Source::fixed, 1, false, RecipeKind::transfer, 0.3},
    {"distill", true, Source::fixed, 1, false, RecipeKind::distill, 0.3},
    {"gated-distill", true, Source::gated, 1, false, RecipeKind::distill, 0.3},
    {"wide-gated-distill", true, Source::gated, 4, true, RecipeKind::distill, 0.5},
};

// Distances in tokens that recall is shown for.
constexpr std::pair<int64_t, int64_t> kDistances[] = {{1, 32}, {33, 64}, {65, 128}, {129, INT64_MAX}};

struct Lab {
  Path teacher_path, tokenizer, train_text, valid_text, test_text, output;
  std::string separator = "<|endoftext|>";
  int64_t tokens = 1'000'000, seeds = 1;
  std::vector<std::vector<int32_t>> valid, test;
  HeldOut stories;
  std::FILE* csv = nullptr;
};

std::vector<std::vector<int32_t>> sequences_of(const Lab& lab, const Tokenizer& tokenizer, const Path& text, int64_t context) {
  return scoring_sequences(tokenizer, MappedFile(text).text(), {lab.separator, 0, 0, context, true});
}

void show(const Lab& lab, const std::string& name, uint64_t seed, int64_t tokens, double seconds, const Decoder& decoder) {
  const double valid = evaluate(decoder, lab.valid).nll, test = evaluate(decoder, lab.test).nll;
  const std::vector<Recalled> spans = recalled(decoder, lab.stories.recall);
  printf("%-20s %4lu %8s %7s   %.4f   %.4f  ", name.c_str(), static_cast<unsigned long>(seed), format_count(static_cast<double>(tokens)).c_str(),
         format_time(seconds).c_str(), valid, test);
  fprintf(lab.csv, "%s,%lu,%ld,%.1f,%.6f,%.6f", name.c_str(), static_cast<unsigned long>(seed), static_cast<long>(tokens), seconds, valid, test);
  for (const auto& [least, most] : kDistances) {
    const double share = share_recalled(spans, least, most);
    printf(" %4.0f %%", 100 * share);
    fprintf(lab.csv, ",%.4f", share);
  }
  printf("\n");
  fprintf(lab.csv, "\n");
  fflush(nullptr);
}

// Makes, trains and shows one student; false when it was interrupted.
bool run_student(const Lab& lab, const Student& s, uint64_t seed, const Model& teacher, const Corpus& corpus) {
  const std::string name = lab.seeds > 1 ? format("%s-%lu", s.name, static_cast<unsigned long>(seed)) : s.name;
  LinearizeOptions linear;
  linear.init = s.identity ? LinearizeOptions::Init::identity : LinearizeOptions::Init::standard;
  linear.decay.source = s.decay;
  linear.key_dim = s.key_dim * teacher.config().head_dim;
  linear.output_gate = s.output_gate;
  linear.seed = seed;
  Model student = linearize(teacher, linear).model;

  TrainOptions o;
  o.tokens = lab.tokens;
  o.seed = seed;
  o.validate_every = std::max<int64_t>(1, lab.tokens / 20);
  o.recipe.kind = s.recipe.value_or(RecipeKind::distill);
  o.recipe.transfer_share = s.transfer_share;
  o = resolve(o, *student.decoder);
  if (!s.recipe) {
    BatchLoader loader(corpus, o.batch_tokens / o.sequence, o.sequence, seed);
    std::vector<Batch> batches;
    while (static_cast<int64_t>(batches.size()) * o.batch_tokens < o.recipe.calibrate_tokens) batches.push_back(loader.next());
    make_recipe(*student.decoder, teacher.decoder.get(), o.recipe).prepare(batches);
    show(lab, name, seed, 0, 0, *student.decoder);
    return true;
  }
  TrainingLog log(lab.output / (name + ".csv"));
  Progress progress(name, step_count(o));
  TrainHooks hooks;
  hooks.validate = [&] { return evaluate(*student.decoder, lab.valid).nll; };
  hooks.should_stop = interrupted;
  hooks.on_start = [&](int64_t step) { log.start(step); };
  hooks.on_step = [&](const TrainStep& step) {
    progress.update(step.step, format("%s loss %.3f | %s tok/s", step.stage.c_str(), step.loss, format_count(step.tokens_per_second).c_str()),
                    step.seconds_left);
    log.write(step);
  };
  const TrainResult result = train(student, teacher.decoder.get(), corpus, o, lab.output / name, hooks);
  progress.finish();
  if (result.interrupted) return false;
  show(lab, name, seed, result.tokens, result.seconds, *student.decoder);
  return true;
}

}  // namespace

int run_lab(Args& args) {
  const char* given = std::getenv("SUPRA_SHARED");
  const Path shared = given ? given : "../shared", models = shared / "models/stories260K", texts = shared / "data/tinystories";
  Lab lab;
  lab.output = "build/lab";
  lab.teacher_path = models / "stories260K.bin";
  lab.tokenizer = models / "tok512.bin";
  lab.train_text = texts / "uptrain_train.txt";
  lab.valid_text = texts / "uptrain_valid.txt";
  lab.test_text = texts / "uptrain_test.txt";
  args.flag(&lab.output, "--output -o", "DIR", "where the table, the CSVs, the picture and the students go");
  args.flag(&lab.teacher_path, "--teacher", "MODEL", "a softmax model");
  args.flag(&lab.tokenizer, "--tokenizer", "FILE", "its tokenizer");
  args.flag(&lab.train_text, "--data", "FILE", "text to train on");
  args.flag(&lab.valid_text, "--valid", "FILE", "text that choices may be made by");
  args.flag(&lab.test_text, "--test", "FILE", "text that is only measured");
  args.flag(&lab.separator, "--docs", "SEP", "what stands between documents");
  args.tokens(&lab.tokens, "--tokens", "that each student is trained on");
  args.flag(&lab.seeds, "--seeds", "N", "runs of each student").at_least(1);
  common_flags(args);
  args.parse();
  catch_interrupts();

  Model teacher = load_model(lab.teacher_path, lab.tokenizer.string(), Weights::stored);
  const Tokenizer& tokenizer = tokenizer_of(teacher);
  const int64_t context = std::min<int64_t>(teacher.config().context, 512);
  lab.valid = sequences_of(lab, tokenizer, lab.valid_text, context);
  lab.test = sequences_of(lab, tokenizer, lab.test_text, context);
  lab.stories = held_out_stories(tokenizer, 100, static_cast<size_t>(context));
  const Corpus corpus = read_corpus({lab.train_text}, tokenizer, lab.separator);
  std::filesystem::create_directories(lab.output);
  lab.csv = std::fopen((lab.output / "lab.csv").c_str(), "w");
  CHECK(lab.csv, "%s: cannot be written", (lab.output / "lab.csv").c_str());
  fprintf(lab.csv, "student,seed,tokens,seconds,valid_nll,test_nll,recall_32,recall_64,recall_128,recall_far\n");
  printf("                                          nats a token      recalled at a distance of\n"
         "student              seed   tokens    time    valid     test     ..32  ..64 ..128  more\n");
  const auto start = std::chrono::steady_clock::now();
  show(lab, "teacher", 0, 0, 0, *teacher.decoder);

  std::vector<Path> logs;
  for (const Student& student : kStudents) {
    for (int64_t seed = 0; seed < lab.seeds; seed++) {
      if (!run_student(lab, student, static_cast<uint64_t>(seed), teacher, corpus)) return 1;
    }
    const Path log = lab.output / (student.name + std::string(lab.seeds > 1 ? "-0.csv" : ".csv"));
    if (student.recipe) logs.push_back(log);
  }
  std::fclose(lab.csv);
  if (plot_available()) {
    PlotOptions plot;
    plot.y = {"valid_nll"};
    plot.teacher = evaluate(*teacher.decoder, lab.valid).nll;
    plot.title = "validation, nats a token";
    plot.y_max = 3;
    plot_runs(logs, lab.output / "lab.png", plot);
  }
  printf("all in %s; %s holds lab.csv, lab.png and a directory a student\n",
         format_time(std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count()).c_str(), lab.output.c_str());
  return 0;
}

}  // namespace supra
