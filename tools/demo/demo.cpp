#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>

#include "supra/evaluation/perplexity.h"
#include "supra/formats/config/openlm_config.h"
#include "supra/inference/generate.h"
#include "supra/linearize.h"
#include "supra/training/train.h"
#include "tools/command.h"
#include "tools/demo/held_out.h"
#include "tools/human.h"
#include "tools/interrupt.h"
#include "tools/output_folder.h"
#include "tools/demo/own_teacher.h"
#include "tools/plot/plot.h"
#include "tools/plot/png.h"
#include "tools/progress.h"
#include "tools/training_log.h"

// supra demo: the main job, with the model in the repository. A transformer becomes an RNN, is bad at first, recovers by
// uptraining and writes text from a state of constant size. The texts come from a grammar of known entropy.

namespace supra {
namespace {

double bits_of(const Decoder& decoder, const HeldOut& held_out) {
  const Perplexity score = evaluate(decoder, held_out.sequences);
  return bits_per_byte(score.nll, score.tokens, held_out.bytes);
}

// One line: how well a model predicts new stories, and how much it remembers of them.
void show_score(const char* who, const Decoder& decoder, const HeldOut& held_out) {
  printf("   %-26s %.3f bits a byte (floor %.3f), recalls %.0f %% of names, things and places\n", who, bits_of(decoder, held_out),
         held_out.floor, 100 * share_recalled(recalled(decoder, held_out.recall)));
  fflush(stdout);
}

void show_completion(const char* who, const Model& model, const std::string& prompt) {
  Session session(*model.decoder);
  std::vector<int32_t> history = encode_document(*model.tokenizer, prompt, true);
  session.feed(history);
  Sampler greedy(SamplerOptions{.temperature = 0});
  GenerateOptions options;
  options.tokens = 400;
  const std::string text = generate(session, model.tokenizer.get(), greedy, history, options).text;
  printf("   %s:\n", who);
  // wrapped at blanks
  std::string line = "     ";
  for (size_t at = 0; at < text.size();) {
    const size_t end = std::min(text.find(' ', at + 1), text.size());
    if (line.size() + end - at > 100) {
      printf("%s\n", line.c_str());
      line = "     ";
      if (text[at] == ' ') at++;
    }
    line += text.substr(at, end - at);
    at = end;
  }
  printf("%s\n", line.c_str());
}

// Tokens per second of decoding after `position` tokens of context, the best of five runs.
double decode_speed(Session& session, int64_t position) {
  // any token will do
  const int32_t id = 1;
  session.feed(std::vector<int32_t>(static_cast<size_t>(position - session.position()), id));
  double best = 0;
  for (int run = 0; run < 5; run++) {
    constexpr int kTokens = 50;
    const auto start = std::chrono::steady_clock::now();
    for (int i = 0; i < kTokens; i++) session.step(std::span(&id, 1));
    best = std::max(best, kTokens / std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
  }
  return best;
}

void show_memory_and_speed(const Model& teacher, const Model& student) {
  printf("   %-26s %12s %12s %12s\n", "bytes a sequence at", "1k tokens", "16k", "256k");
  for (const Model* model : {&teacher, &student}) {
    const auto bytes = [&](int64_t position) { return format_bytes(static_cast<double>(model->decoder->state_bytes(position))); };
    printf("   %-26s %12s %12s %12s\n", model == &teacher ? "teacher, KV cache" : "student, state", bytes(1000).c_str(),
           bytes(16000).c_str(), bytes(256000).c_str());
  }
  printf("   %-26s %12s %12s\n", "decoded tokens a second at", "100", "8000");
  for (const Model* model : {&teacher, &student}) {
    Session session(*model->decoder);
    const double early = decode_speed(session, 100), late = decode_speed(session, 8000);
    printf("   %-26s %12s %12s\n", model == &teacher ? "teacher" : "student", format_count(early).c_str(), format_count(late).c_str());
  }
}

TrainResult train_with_progress(Model& model, const Path& text, const TrainOptions& options, const Path& directory,
                                const std::vector<std::vector<int32_t>>& valid, const Path& csv) {
  const Corpus corpus = read_corpus({text}, *model.tokenizer, kStorySeparator);
  TrainingLog log(csv);
  log.start(0);
  Progress progress("   step", step_count(options));
  TrainHooks hooks;
  hooks.validate = [&](int64_t) { return evaluate(*model.decoder, valid).nll; };
  hooks.should_stop = interrupted;
  const double tokens_per_byte = static_cast<double>(corpus.tokens()) / static_cast<double>(corpus.text_bytes());
  hooks.on_step = [&](const TrainStep& step) {
    progress.update(step.step, format("%.3f bits a byte | %s tok/s", step.loss / M_LN2 * tokens_per_byte,
                                      format_count(step.tokens_per_second).c_str()), step.seconds_left);
    log.write(step);
  };
  return train(model, nullptr, corpus, options, directory, hooks);
}

// Trains the teacher in the repository, tools/demo/teacher.
int make_teacher(const Path& teacher, const Path& output) {
  Model model;
  make_output_folder(output, {"teacher.csv", "uptrain.csv"});
  TrainingLog(output / "teacher.csv").start(0);
  write_file_atomically(output / "tok_stories.bin", story_vocabulary());
  model.tokenizer = load_tokenizer(output / "tok_stories.bin");
  model.decoder = make_decoder(read_openlm_config(Json::load(teacher / "train.json")));
  CHECK(model.config().vocab == model.tokenizer->size(), "%s/train.json: vocab_size is %ld, the grammar's words make %d",
        teacher.c_str(), static_cast<long>(model.config().vocab), model.tokenizer->size());
  model.decoder->init_weights(1);
  const Path text = write_story_file(output / "teacher.txt", kTeacherStories, 16'000'000);
  const HeldOut held_out = held_out_stories(*model.tokenizer, 200, static_cast<size_t>(model.config().context));
  TrainOptions options;
  options.tokens = 4'000'000;
  options.batch_tokens = 4096;
  options.recipe.lr = 2e-3;
  options = resolve(options, *model.decoder);
  const TrainResult result = train_with_progress(model, text, options, output / "teacher-run", held_out.sequences, output / "teacher.csv");
  if (result.interrupted) return 1;
  NewDirectory directory(teacher);
  std::filesystem::copy_file(teacher / "train.json", directory.path() / "train.json");
  write_model(model, directory.path(), Dtype::bf16);
  directory.commit();
  show_score("teacher", *load_model(teacher).decoder, held_out);
  return 0;
}

}  // namespace

int run_demo(Args& args) {
  Path teacher_path, output = "build/demo";
  int64_t tokens = 1'600'000;
  bool remake = false;
  args.flag(&output, "--output -o", "DIR", "folder for the student, its log and its curve");
  args.flag(&teacher_path, "--teacher", "DIR", "a softmax model, instead of the one that comes with supra");
  args.tokens(&tokens, "--tokens", "number of training tokens");
  args.flag(&remake, "--make-teacher", "train the teacher again, from random weights");
  common_flags(args);
  args.parse();
  catch_interrupts();
  if (remake) return make_teacher(teacher_path.empty() ? "tools/demo/teacher" : teacher_path, output);

  const auto start = std::chrono::steady_clock::now();
  const Model teacher = load_model(teacher_path.empty() ? own_teacher() : teacher_path);
  make_output_folder(output, {"uptrain.csv", "teacher.csv"});
  TrainingLog(output / "uptrain.csv").start(0);
  const Tokenizer& tokenizer = tokenizer_of(teacher);
  const HeldOut held_out = held_out_stories(tokenizer, 200, static_cast<size_t>(teacher.config().context));
  printf("1  A transformer: %s parameters, %ld layers of softmax attention, trained on little stories\n",
         format_count(static_cast<double>(teacher.decoder->parameter_count())).c_str(), static_cast<long>(teacher.config().layers));
  show_score("teacher", *teacher.decoder, held_out);

  Linearized linearized = linearize(teacher, {});
  Model& student = linearized.model;
  printf("\n2  Linearized: every weight kept, softmax replaced by a state of fixed size, %s new weights\n",
         format_count(static_cast<double>(linearized.fresh_parameters)).c_str());
  show_score("student, untrained", *student.decoder, held_out);

  printf("\n3  Uptraining on %s tokens of other stories\n", format_count(static_cast<double>(tokens)).c_str());
  fflush(stdout);
  const Path text = write_story_file(output / "stories.txt", kStudentStories, 4 * tokens);
  TrainOptions options;
  options.tokens = tokens;
  options = resolve(options, *student.decoder);
  const TrainResult result = train_with_progress(student, text, options, output / "student", held_out.sequences, output / "uptrain.csv");
  if (result.interrupted) return 1;
  show_score("student, uptrained", *student.decoder, held_out);

  StoryGrammar grammar(kHeldOutStories);
  const std::string story = grammar.next().text;
  const std::string prompt = story.substr(0, story.find(' ', story.size() / 3));
  printf("\n4  The same beginning, completed by both\n     %s ...\n", prompt.c_str());
  show_completion("teacher", teacher, prompt);
  show_completion("student", student, prompt);

  printf("\n5  Memory and speed\n");
  show_memory_and_speed(teacher, student);

  const std::string no_png = why_no_png();
  if (no_png.empty()) plot_runs({output / "uptrain.csv"}, output / "curve.png", {});
  printf("\n6  Written to %s: student/ (a model), uptrain.csv, stories.txt%s\n", output.c_str(),
         no_png.empty() ? ", curve.png" : ("; no curve.png: " + no_png).c_str());
  printf("   all in %s. Now with a real model:\n\n", format_time(std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count()).c_str());
  printf("     supra inspect MODEL                   what is in it (a folder from Hugging Face, a GGUF, an OpenLM or a llama2.c checkpoint)\n"
         "     supra linearize MODEL -o student      softmax out, recurrent state in\n"
         "     supra uptrain student -o healed --data text.txt --tokens 3M\n"
         "     supra generate healed -p \"Once upon a time\"\n");
  return 0;
}

}  // namespace supra
