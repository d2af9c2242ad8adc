#include "tools/eval_tasks.h"

#include <cstdio>

#include "supra/evaluation/question_answering.h"
#include "tools/human.h"
#include "tools/progress.h"

namespace supra {

// The number of right answers by either rule.
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

void tell_cut(int64_t cut, int64_t context) {
  if (cut == 0) return;
  fprintf(stderr, "%ld prompts had more than %ld ids: what the model cannot see was cut off from the left\n", static_cast<long>(cut),
          static_cast<long>(context));
}

// Scores a task. `rows` gets the result of each item, `cut` the number of prompts that were cut.
static Tally score_task(const Model& model, const Task& task, int64_t context, bool bos, const OnItems& on_items, Json& rows, int64_t& cut) {
  const Tokenizer& tokenizer = tokenizer_of(model);
  Tally tally{task.name};
  std::vector<std::vector<Request>> requests = encode_task(tokenizer, task, bos);
  if (context > 0) cut += cut_requests(requests, context);
  const auto scores = score_requests(*model.decoder, requests, on_items);
  for (size_t i = 0; i < scores.size(); i++) {
    const Prediction chosen = predict(task, i, scores[i]);
    const int64_t gold = task.items[i].gold;
    tally.add(1, chosen.sum == gold, chosen.normalised == gold);
    rows.push(item_report(requests[i], scores[i], chosen, gold));
  }
  return tally;
}

// The same for questions, which the model answers by writing.
static Tally answer_task(const Model& model, const Task& task, int64_t context, bool bos, const OnItems& on_items, Json& rows, int64_t& cut) {
  const QuestionAnswering result = answer_questions(*model.decoder, tokenizer_of(model), task, {.context = context, .bos = bos}, on_items);
  Tally tally{task.name};
  cut += result.cut;
  for (const Answer& answer : result.answers) {
    tally.add(1, answer.right, answer.right);
    Json row = Json::object();
    row.set("answer", answer.text);
    row.set("right", answer.right);
    rows.push(std::move(row));
  }
  return tally;
}

int eval_tasks(const Model& model, const std::vector<Task>& tasks, int64_t context, bool bos, bool json) {
  int64_t total = 0, cut = 0;
  for (const Task& task : tasks) total += static_cast<int64_t>(task.items.size());
  Tally all{"all"};
  std::vector<Tally> tallies;
  Json rows = Json::array();
  Progress progress("items", total);
  for (const Task& task : tasks) {
    const auto on_items = [&](int64_t done) { progress.update(all.n + done, task.name); };
    const auto measure = task.kind == TaskKind::questions ? answer_task : score_task;
    const Tally& tally = tallies.emplace_back(measure(model, task, context, bos, on_items, rows, cut));
    all.add(tally.n, tally.right, tally.right_normalised);
  }
  progress.finish();
  const double seconds = progress.seconds(), speed = static_cast<double>(all.n) / seconds;
  tell_cut(cut, context);
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
  // normalising by length changes nothing if all choices have the same text, or one letter each
  const bool normalised = tasks[0].kind == TaskKind::choices;
  if (tallies.size() > 1) tallies.push_back(all);
  for (const Tally& tally : tallies) tally.print(normalised);
  printf("%s, %ld shots, %s, %.1f items/s\n", name_of(tasks[0].kind), static_cast<long>(tasks[0].shots), format_time(seconds).c_str(), speed);
  return 0;
}

}  // namespace supra
