#include <algorithm>
#include <cmath>
#include <cstdio>

#include "supra/evaluation/choices.h"
#include "supra/evaluation/perplexity.h"
#include "supra/formats/json.h"
#include "supra/model.h"
#include "tools/command.h"
#include "tools/device_flags.h"
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

// How many items were answered rightly, by either rule.
struct Tally {
  std::string name;
  int64_t n = 0, right = 0, right_normalised = 0;

  void add(int64_t items, int64_t by_sum, int64_t by_length) {
    n += items;
    right += by_sum;
    right_normalised += by_length;
  }
  void report(Json& json) const {
    const Accuracy sum = accuracy(right, n), normalised = accuracy(right_normalised, n);
    json.set("n", n);
    json.set("acc", sum.mean);
    json.set("acc_norm", normalised.mean);
    json.set("stderr", sum.error);
    json.set("stderr_norm", normalised.error);
  }
  void print(bool with_normalised) const {
    const Accuracy sum = accuracy(right, n), normalised = accuracy(right_normalised, n);
    printf("%-36s %6ld items   acc %.4f +- %.4f", name.c_str(), static_cast<long>(n), sum.mean, sum.error);
    if (with_normalised) printf("   acc_norm %.4f +- %.4f", normalised.mean, normalised.error);
    printf("\n");
  }
};

static Json item_report(const std::vector<Request>& requests, const std::vector<Score>& scores,
                        const Prediction& chosen, int64_t gold) {
  Json row = Json::object(), logliks = Json::array(), tokens = Json::array();
  for (size_t i = 0; i < scores.size(); i++) {
    logliks.push(scores[i].loglik);
    tokens.push(requests[i].scored);
  }
  row.set("loglik", std::move(logliks));
  row.set("tokens", std::move(tokens));
  row.set("pred", chosen.sum);
  row.set("pred_norm", chosen.normalised);
  row.set("gold", gold);
  return row;
}

// `context`: ids that are read at most; 0: any number
static int eval_tasks(const Model& model, const std::vector<Task>& tasks, int64_t context, bool bos,
                      bool json) {
  const Tokenizer& tokenizer = tokenizer_of(model);
  int64_t total = 0, cut = 0;
  for (const Task& task : tasks) total += static_cast<int64_t>(task.items.size());
  Tally all{"all"};
  std::vector<Tally> tallies;
  Json rows = Json::array();
  Progress progress("items", total);
  for (const Task& task : tasks) {
    std::vector<std::vector<Request>> requests = encode_task(tokenizer, task, bos);
    if (context > 0) cut += cut_requests(requests, context);
    const auto scores = score_requests(*model.decoder, requests,
                                       [&](int64_t done) { progress.update(all.n + done, task.name); });
    Tally& tally = tallies.emplace_back(Tally{task.name});
    for (size_t i = 0; i < scores.size(); i++) {
      const Prediction chosen = predict(task, i, scores[i]);
      const int64_t gold = task.items[i].gold;
      tally.add(1, chosen.sum == gold, chosen.normalised == gold);
      if (json) rows.push(item_report(requests[i], scores[i], chosen, gold));
    }
    all.add(tally.n, tally.right, tally.right_normalised);
  }
  progress.finish();
  const double seconds = progress.seconds(), speed = static_cast<double>(all.n) / seconds;
  if (cut > 0) {
    fprintf(stderr,
            "%ld continuations had more than %ld ids in front of them: what the model cannot see was cut off "
            "from the left\n",
            static_cast<long>(cut), static_cast<long>(context));
  }
  if (json) {
    Json report = Json::object(), parts = Json::array();
    all.report(report);
    report.set("kind", name_of(tasks[0].kind));
    report.set("shots", tasks[0].shots);
    report.set("cut", cut);
    report.set("seconds", seconds);
    report.set("items_per_second", speed);
    for (const Tally& tally : tallies) {
      Json part = Json::object();
      part.set("task", tally.name);
      tally.report(part);
      parts.push(std::move(part));
    }
    report.set("tasks", std::move(parts));
    report.set("items", std::move(rows));
    printf("%s\n", report.dump().c_str());
    return 0;
  }
  // normalising by length changes nothing where the choices are the same text, or one letter each
  const bool normalised = tasks[0].kind == TaskKind::choices;
  if (tallies.size() > 1) tallies.push_back(all);
  for (const Tally& tally : tallies) tally.print(normalised);
  printf("%s, %ld shots, %s, %.1f items/s\n", name_of(tasks[0].kind), static_cast<long>(tasks[0].shots),
         format_time(seconds).c_str(), speed);
  return 0;
}

int run_eval(Args& args) {
  Path input, text, task, shots, mixer_parts, filler, teacher;
  std::string tokenizer_file;
  TextOptions options;
  options.context = 0;
  int64_t limit = 0, offset = 0;
  std::optional<bool> bos;
  bool json = false, recurrent = false;
  std::vector<int64_t> distances;
  FactOptions facts;
  Weights weights = Weights::stored;
  DeviceFlags device;
  args.positional(&input, "MODEL", "a folder or a file");
  args.flag(&text, "--text", "FILE", "the text to score; of a .jsonl each line's \"text\" is a document");
  args.flag(&options.separator, "--docs", "SEP",
            "what stands between documents; else the file is one sequence");
  args.flag(&options.max_documents, "--max-docs", "N", "documents to score; 0: all").at_least(0);
  args.tokens(&options.max_tokens, "--max-tokens", "ids to keep; 0: all");
  args.flag(&task, "--task", "FILE", "choices to score: a jsonl, an MMLU csv or a folder of them");
  args.flag(&limit, "--limit", "N", "items of a task to score; 0: all").at_least(0);
  args.flag(&offset, "--offset", "N", "items of a task to leave out in front").at_least(0);
  args.flag(&shots, "--shots", "FILE",
            "worked examples in front of each item; 0: none; default for a csv: its file in ../dev");
  args.tokens(&options.context, "--context",
              "ids of a sequence; 0: the model's context, with --text at most 2048, with --mixer-parts 4096");
  args.flag(&bos, "--bos", "whether a sequence begins with BOS; else as the tokenizer says");
  args.flag(&recurrent, "--recurrent", "decode token by token instead of in chunks (with --text)");
  args.flag(&mixer_parts, "--mixer-parts", "TEXT",
            "loss of a window student by position: whole, and with only some parts of its layers");
  args.flag(&filler, "--recall", "FILLER", "plant facts in this text and ask for them");
  args.flag(&distances, "--distances", "N,N",
            "tokens between a fact and its question; default 2, 4 and 8 times the longest window");
  args.flag(&facts.items, "--items", "N", "facts at each distance").at_least(1);
  args.flag(&facts.seed, "--seed", "N", "of the facts");
  args.flag(&teacher, "--teacher", "MODEL", "also show the figures of this model (with --mixer-parts and --recall)");
  args.choice(&weights, "--dtype", {{"stored", Weights::stored}, {"f32", Weights::trainable}},
              "compute with the weights as they are, or in f32");
  args.flag(&tokenizer_file, "--tokenizer", "FILE", "else the one found beside the model");
  device.declare(args);
  common_flags(args, &json);
  args.parse();
  device.check(args);
  if (text.empty() + task.empty() + mixer_parts.empty() + filler.empty() != 3)
    args.misused("one of --text, --task, --mixer-parts and --recall is needed");
  const bool reach = !mixer_parts.empty() || !filler.empty();
  if (!teacher.empty() && !reach) args.misused("--teacher is for --mixer-parts and --recall");

  std::vector<Task> tasks;
  if (!task.empty()) tasks = read_tasks(task, shots);
  for (Task& part : tasks) cut_task(part, offset, limit);
  const Model model = load_model(input, tokenizer_file, weights);
  device.place(*model.decoder);
  options.bos = facts.bos = bos.value_or(tokenizer_of(model).adds_bos());
  if (reach) {
    std::optional<Model> taught_by;
    if (!teacher.empty()) device.place(*taught_by.emplace(load_model(teacher, tokenizer_file, weights)).decoder);
    const Model* other = taught_by ? &*taught_by : nullptr;
    return filler.empty() ? eval_mixer_parts(model, other, mixer_parts, options, json) : eval_recall(model, other, filler, distances, facts, json);
  }
  if (tasks.empty()) return eval_text(model, text, options, recurrent, json);
  if (options.context == 0) options.context = position_limit(model.config());
  return eval_tasks(model, tasks, options.context, options.bos, json);
}

}  // namespace supra
