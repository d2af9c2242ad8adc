#include "tools/compare/topics.h"

#include <algorithm>

#include "tensor/cpu.h"
#include "tools/bench/bench.h"
#include "tools/window_report.h"

namespace supra {

std::vector<Topic> topics_of(Comparison& c) {
  std::vector<Topic> topics;
  if (!c.text.empty()) {
    topics.push_back(text_topic(c));
    topics.push_back(agreement_topic(c));
    topics.push_back(position_topic(c));
  }
  for (const TaskSet& set : c.tasks.sets) topics.push_back(task_topic(set));
  for (const TaskSet& set : c.tasks.sets) {
    // each item is asked four times: as many questions as the task has
    TaskSet some = set;
    if (some.kind() != TaskKind::mmlu) continue;
    choose_items(some, std::max<int64_t>(1, set.items() / 4), c.options.seed);
    topics.push_back(bias_topic(some));
  }
  if (!c.text.empty()) {
    if (std::optional<Topic> topic = recall_topic(c)) topics.push_back(std::move(*topic));
  }
  topics.push_back(cost_topic(c));
  return topics;
}

Topic task_topic(const TaskSet& set) {
  Topic topic;
  topic.title = "tasks, % right (items)";
  topic.measure = {"task-" + set.name, "items " + hex(set.hash()), set.tokens()};
  topic.measure.run = [set](const Model& model, const Model*, const OnPart& on_part) {
    const double n = static_cast<double>(set.items());
    Json result = score_task_set(model, set, [&](int64_t done) { on_part(static_cast<double>(done) / n); });
    return Json::object({{"tasks", Json::object({{set.name, std::move(result)}})}});
  };
  topic.figures = [name = set.name](const Json& report) {
    const Json& task = report.at("tasks").at(name);
    const int64_t shots = task.integer("shots"), cut = task.integer("cut");
    const auto figure = [&](const char* rule, const char* value, const char* error, const char* items) {
      Figure f = {name + (shots > 0 ? format(", %ld shots", static_cast<long>(shots)) : "") + rule +
                      format(" (%ld)", static_cast<long>(task.integer("n"))),
                  Unit::percent,
                  task.number(value),
                  task.number(error),
                  task.number("chance"),
                  task.text(items)};
      if (cut > 0)
        f.note =
            format("%ld contexts of %s were cut from the left: the model knows no more positions", static_cast<long>(cut), name.c_str());
      return f;
    };
    std::vector<Figure> figures = {figure("", "acc", "stderr", "right")};
    // normalising by length changes nothing if all choices have the same text, or one letter each
    if (task.text("kind") == name_of(TaskKind::choices)) figures.push_back(figure(", by length", "acc_norm", "stderr_norm", "right_norm"));
    return figures;
  };
  return topic;
}

namespace {

constexpr int64_t kSessions[] = {1 << 10, 1 << 14, 1 << 18}, kDepths[] = {64, 2048, 8192}, kPrefill = 512;

Json measure_costs(const Model& model, const BenchOptions& options, const OnPart& on_part) {
  const Config& config = model.config();
  Json bytes = Json::object(), speed = Json::object(), spread = Json::object();
  for (const int64_t tokens : kSessions) bytes.set(std::to_string(tokens), static_cast<int64_t>(model.decoder->state_bytes(tokens)));
  Bench bench(options, {});
  for (const int64_t depth : kDepths) {
    if (config.learned_positions && depth + 32 > config.context) continue;
    bench_decode(bench, std::to_string(depth), *model.decoder, depth);
    on_part(static_cast<double>(bench.rows().size()) / static_cast<double>(std::size(kDepths) + 1));
  }
  bench_prefill(bench, "prefill", *model.decoder, config.learned_positions ? std::min(kPrefill, config.context) : kPrefill);
  Json result = Json::object();
  for (const BenchRow& row : bench.rows()) {
    const double tokens = row.more.at(0).second, error = tokens * row.time.spread;
    if (row.name == "prefill")
      result.set("prefill_tokens_per_second", tokens), result.set("prefill_spread", error);
    else
      speed.set(row.name, tokens), spread.set(row.name, error);
  }
  result.set("bytes_at", std::move(bytes));
  result.set("tokens_per_second_at", std::move(speed));
  result.set("tokens_per_second_spread_at", std::move(spread));
  result.set("layers", config.layers);
  result.set("softmax_layers", static_cast<int64_t>(layers_with(config, MixerKind::softmax).size()));
  // an interrupted series of runs is not a result
  on_part(1);
  return result;
}

std::vector<Figure> cost_figures(const Json& report) {
  std::vector<Figure> figures;
  const int64_t softmax = report.integer("softmax_layers"), layers = report.integer("layers");
  for (const auto& [tokens, bytes] : report.at("bytes_at").as_object()) {
    Figure figure = {"bytes a session at " + tokens + " tokens", Unit::bytes, bytes.as_number()};
    if (softmax > 0) {
      figure.note = softmax == layers ? "grows with the text: every layer keeps all keys"
                                      : format("grows with the text: %ld of %ld layers keep all keys (softmax)", static_cast<long>(softmax),
                                               static_cast<long>(layers));
    }
    figures.push_back(figure);
  }
  const Json& spread = report.at("tokens_per_second_spread_at");
  for (const auto& [depth, speed] : report.at("tokens_per_second_at").as_object())
    figures.push_back({"tokens a second at depth " + depth, Unit::per_second, speed.as_number(), spread.number(depth)});
  figures.push_back(
      {"prefill of 512, tokens a second", Unit::per_second, report.number("prefill_tokens_per_second"), report.number("prefill_spread")});
  return figures;
}

std::vector<Curve> cost_curves(const Json& report) {
  Curve memory = {"cost", "MB a session", "tokens read", {}, {}}, speed = {"cost", "tokens a second", "tokens read", {}, {}};
  for (const auto& [tokens, bytes] : report.at("bytes_at").as_object()) {
    memory.x.push_back(std::stod(tokens));
    memory.y.push_back(bytes.as_number() / 1e6);
  }
  for (const auto& [depth, rate] : report.at("tokens_per_second_at").as_object()) {
    speed.x.push_back(std::stod(depth));
    speed.y.push_back(rate.as_number());
  }
  return {memory, speed};
}

}  // namespace

Topic cost_topic(const Comparison& c) {
  // rows are repeated until they are steady, so all models take about the same time
  constexpr int64_t kAboutTokens = 8000;
  BenchOptions options;
  options.device = c.device.device;
  options.dtype = c.device.activations;
  Topic topic;
  topic.title = format("cost, %d threads", threads());
  topic.measure = {"cost", format("%d threads %s", threads(), name(cpu_level())), kAboutTokens};
  topic.measure.run = [options](const Model& model, const Model*, const OnPart& on_part) { return measure_costs(model, options, on_part); };
  topic.figures = cost_figures;
  topic.curves = cost_curves;
  return topic;
}

}  // namespace supra
