#include <cmath>
#include <cstdio>

#include "supra/evaluation/perplexity.h"
#include "supra/formats/parse/json.h"
#include "supra/model.h"
#include "tools/command.h"
#include "tools/device_flags.h"
#include "tools/eval_tasks.h"
#include "tools/human.h"
#include "tools/progress.h"
#include "tools/reach.h"

namespace supra {

static int eval_text(const Model& model, const Path& text, TextOptions options, bool recurrent, bool json) {
  const Tokenizer& tokenizer = tokenizer_of(model);
  if (options.context == 0) options.context = default_context(model.config());
  const auto sequences = read_sequences(tokenizer, text, options);

  Perplexity result;
  {
    Progress progress("tokens", 0);
    result = evaluate(*model.decoder, sequences, recurrent, [&](int64_t done, int64_t total) {
      progress.update(done, format("of %s", format_count(static_cast<double>(total)).c_str()));
    });
  }
  const double bits = bits_per_byte(result.nll, result.tokens, predicted_bytes(tokenizer, sequences));
  const double speed = static_cast<double>(result.tokens) / result.seconds;
  if (json) {
    Json report = Json::object();
    report.set("tokens", result.tokens);
    report.set("nll", result.nll);
    report.set("stderr", result.error);
    report.set("ppl", std::exp(result.nll));
    report.set("bits_per_byte", bits);
    report.set("seconds", result.seconds);
    report.set("tokens_per_second", speed);
    report.set("sequences", static_cast<int64_t>(sequences.size()));
    report.set("context", options.context);
    printf("%s\n", report.dump().c_str());
    return 0;
  }
  printf("%.4f +- %.4f nats a token, perplexity %.3f, %.4f bits a byte\n", result.nll, result.error,
         std::exp(result.nll), bits);
  printf("%s tokens of %zu sequences of at most %ld in %s, %s tok/s\n",
         format_count(static_cast<double>(result.tokens)).c_str(), sequences.size(),
         static_cast<long>(options.context), format_time(result.seconds).c_str(), format_count(speed).c_str());
  return 0;
}

// The words of the command.
struct EvalWords {
  Path model, text, task, shots, mixer_parts, bias, recall, teacher;
  std::string tokenizer;
  TextOptions options;
  int64_t limit = 0, offset = 0;
  std::optional<bool> bos;
  bool json = false, recurrent = false;
  Weights weights = Weights::stored;
  DeviceFlags device;
  std::vector<int64_t> distances;
  FactOptions facts;

  void parse(Args& args);
  void declare_studies(Args& args);
};

void EvalWords::declare_studies(Args& args) {
  args.flag(&bias, "--position-bias", "FILE", "an MMLU csv or a folder of them; each item is asked four times, with its choices at other letters");
  args.flag(&recall, "--recall", "TEXT", "plant facts in this text and ask for them; also repeat parts of it");
  args.flag(&distances, "--distances", "N,N", "tokens between a fact and its question; default 64, 128, ... 8192, as far as text and models allow");
  args.flag(&facts.items, "--items", "N", "facts at each distance").at_least(1);
  args.flag(&facts.seed, "--seed", "N", "random seed of the facts");
}

void EvalWords::parse(Args& args) {
  options.context = 0;
  args.positional(&model, "MODEL", "a folder or a file");
  args.flag(&text, "--text", "FILE", "the text to score; in a .jsonl each line's \"text\" is a document");
  args.flag(&options.separator, "--docs", "SEP", "separator of documents; without it the file is one sequence");
  args.flag(&options.max_documents, "--max-docs", "N", "documents to score; 0: all").at_least(0);
  args.tokens(&options.max_tokens, "--max-tokens", "number of ids to score; 0: all");
  args.flag(&task, "--task", "FILE", "choices to score or questions to answer: a jsonl, an MMLU csv or a folder of them");
  args.flag(&limit, "--limit", "N", "items of a task to score; 0: all").at_least(0);
  args.flag(&offset, "--offset", "N", "items of a task to skip at the beginning").at_least(0);
  args.flag(&shots, "--shots", "FILE", "file with worked examples to put before each item; 0: none; default for a csv: its file in ../dev");
  args.tokens(&options.context, "--context", "ids of a sequence; 0: the model's context, with --text at most 2048, with --mixer-parts 4096");
  args.flag(&bos, "--bos", "whether sequences begin with BOS; default: as the tokenizer does");
  args.flag(&recurrent, "--recurrent", "decode token by token instead of in chunks (with --text)");
  args.flag(&mixer_parts, "--mixer-parts", "TEXT", "loss of a window student by position: whole, and with only some parts of its layers");
  declare_studies(args);
  args.flag(&teacher, "--teacher", "MODEL", "also show the figures of this model (with --mixer-parts and --recall)");
  args.choice(&weights, "--dtype", {{"stored", Weights::stored}, {"f32", Weights::trainable}},
              "compute with the weights as stored, or in f32");
  args.flag(&tokenizer, "--tokenizer", "FILE", "tokenizer to use instead of the one beside the model");
  device.declare(args);
  common_flags(args, &json);
  args.parse();
  device.check(args);
  if (text.empty() + task.empty() + mixer_parts.empty() + bias.empty() + recall.empty() != 4)
    args.misused("one of --text, --task, --mixer-parts, --position-bias and --recall is needed");
  if (!teacher.empty() && mixer_parts.empty() && recall.empty()) args.misused("--teacher is for --mixer-parts and --recall");
}

int run_eval(Args& args) {
  EvalWords words;
  words.parse(args);
  std::vector<Task> tasks;
  if (!words.task.empty() || !words.bias.empty()) tasks = read_tasks(words.task.empty() ? words.bias : words.task, words.shots);
  for (Task& part : tasks) cut_task(part, words.offset, words.limit);
  const Model model = load_model(words.model, words.tokenizer, words.weights);
  words.device.place(*model.decoder);
  TextOptions& options = words.options;
  options.bos = words.facts.bos = words.bos.value_or(tokenizer_of(model).adds_bos());
  if (!words.text.empty()) return eval_text(model, words.text, options, words.recurrent, words.json);
  const int64_t context = options.context > 0 ? options.context : position_limit(model.config());
  if (!words.task.empty()) return eval_tasks(model, tasks, context, options.bos, words.json);
  std::optional<Model> taught_by;
  if (!words.teacher.empty()) words.device.place(*taught_by.emplace(load_model(words.teacher, words.tokenizer, words.weights)).decoder);
  const Model* other = taught_by ? &*taught_by : nullptr;
  if (!words.bias.empty()) return eval_position_bias(model, tasks, context, options.bos, words.json);
  if (!words.recall.empty()) return eval_recall(model, other, words.recall, words.distances, words.facts, words.json);
  return eval_mixer_parts(model, other, words.mixer_parts, options, words.json);
}

}  // namespace supra
