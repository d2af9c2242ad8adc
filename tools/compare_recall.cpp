#include <algorithm>

#include "tools/compare_topics.h"
#include "tools/eval_tasks.h"
#include "tools/reach.h"

// The topics that loss and accuracy hide: answering by letter, and forgetting.

namespace supra {

Topic bias_topic(const TaskSet& set) {
  const int64_t n = set.items();
  Topic topic;
  topic.title = format("%s under all shifts of its letters, %% of %ld items", set.name.c_str(), static_cast<long>(n));
  topic.measure = {"bias-" + set.name, "items " + hex(set.hash()), 4 * set.tokens()};
  topic.measure.run = [set, n](const Model& model, const Model*, const OnPart& on_part) {
    const Tokenizer& tokenizer = tokenizer_of(model);
    const auto on_items = [&](int64_t done) { on_part(static_cast<double>(done) / static_cast<double>(n)); };
    const PositionBias bias =
        position_bias(*model.decoder, tokenizer, set.parts, position_limit(model.config()), tokenizer.adds_bos(), on_items);
    return Json::object({{"position_bias", to_json(bias)}});
  };
  topic.figures = [](const Json& report) {
    const Json& bias = report.at("position_bias");
    std::vector<Figure> figures = {
        {"right, mean of four shifts", Unit::percent, bias.number("acc"), bias.number("stderr"), 1 / 4.},
        {"right under every shift", Unit::percent, bias.number("all_right"), bias.number("all_right_stderr"), 1 / 256.},
        {"one content wins every time", Unit::percent, bias.number("same_content"), bias.number("same_content_stderr"), 1 / 64.}};
    for (const auto& [letter, row] : bias.at("letters").as_object())
      figures.push_back({"answers " + letter, Unit::percent, row.number("share"), row.number("stderr")});
    return figures;
  };
  return topic;
}

namespace {

constexpr int64_t kAmong = 4;

// The distances that a model can be asked at: all, unless there are no vectors for its later positions.
std::vector<int64_t> possible(const Config& config, const std::vector<DistanceProbe>& probes, std::vector<int64_t> distances) {
  if (config.learned_positions) std::erase_if(distances, [&](int64_t d) { return positions_at(probes, d) > config.context; });
  return distances;
}

std::string beyond(const Json& report, const Json& row) {
  const int64_t known = report.integer("positions_known");
  if (known == 0 || row.integer("positions") <= known) return "";
  return format("beyond the %ld positions that this softmax model knows", static_cast<long>(known));
}

// One row a distance, of a list in the report.
Figure at_distance(const Json& report, const Json& row, const char* value, const char* error, Unit unit, std::optional<double> chance) {
  Figure figure = {"at " + std::to_string(row.integer("distance")) + " tokens", unit, row.number(value), row.number(error), chance};
  figure.note = beyond(report, row);
  return figure;
}

Curve curve_of(const Json& report, const std::string& list, const char* value, const std::string& panel, double unit) {
  Curve curve = {"recall", panel, "distance, tokens", {}, {}};
  for (const Json& row : report.at(list).as_array()) {
    curve.x.push_back(static_cast<double>(row.integer("distance")));
    curve.y.push_back(unit * row.number(value));
  }
  return curve;
}

// The ids of the text from which filler and spans are taken.
std::vector<int32_t> filler_of(std::string_view text, const Tokenizer& tokenizer) {
  constexpr size_t kMost = 4 << 20;
  return tokenizer.encode(text.substr(0, kMost));
}

Topic fact_topic(const Comparison& c, const std::vector<int64_t>& distances, int64_t facts) {
  FactOptions options = {.items = c.options.facts, .facts = facts, .seed = c.options.seed, .filler_name = c.options.text.string()};
  const std::string list = facts == 1 ? "recall" : format("recall_of_%ld", static_cast<long>(facts));
  Topic topic;
  topic.title =
      format("%s, told so far back: %% where the right number of %ld is the likeliest (%ld items)",
             facts == 1 ? "a fact" : "one of four facts", static_cast<long>(options.alternatives), static_cast<long>(options.items));
  topic.measure = {list,
                   format("%ld at %ld of text %s seed %llu", static_cast<long>(options.items), static_cast<long>(distances.back()),
                          hash_of_text(c.text).c_str(), static_cast<unsigned long long>(options.seed)),
                   options.items * distances.back()};
  topic.measure.run = [=, text = std::string_view(c.text)](const Model& model, const Model*, const OnPart& on_part) {
    const Tokenizer& tokenizer = tokenizer_of(model);
    FactOptions mine = options;
    mine.bos = tokenizer.adds_bos();
    const std::vector<DistanceProbe> probes = plant_facts(tokenizer, filler_of(text, tokenizer), distances, mine);
    const auto on_tokens = [&](int64_t done, int64_t total) { on_part(static_cast<double>(done) / static_cast<double>(total)); };
    const auto rows = recall_facts(*model.decoder, probes, possible(model.config(), probes, distances), on_tokens);
    return Json::object({{list, to_json(rows)}, {"positions_known", position_limit(model.config())}});
  };
  topic.figures = [=](const Json& report) {
    std::vector<Figure> figures;
    for (const Json& row : report.at(list).as_array())
      figures.push_back(at_distance(report, row, "accuracy", "stderr", Unit::percent, 1 / static_cast<double>(options.alternatives)));
    return figures;
  };
  topic.curves = [=](const Json& report) {
    Curve curve = curve_of(report, list, "accuracy", facts == 1 ? "% of facts found" : "% found of four facts", 100);
    curve.chance = 100 / static_cast<double>(options.alternatives);
    return std::vector<Curve>{curve};
  };
  return topic;
}

Topic repetition_topic(const Comparison& c, const std::vector<int64_t>& distances) {
  RepetitionOptions options = {.items = c.options.facts, .seed = c.options.seed, .text_name = c.options.text.string()};
  Topic topic;
  topic.title = format("a span of %ld tokens again, so far behind itself: nats a token saved (%ld spans)", static_cast<long>(options.span),
                       static_cast<long>(options.items));
  topic.measure = {"repetition",
                   format("%ld at %ld of text %s seed %llu", static_cast<long>(options.items), static_cast<long>(distances.back()),
                          hash_of_text(c.text).c_str(), static_cast<unsigned long long>(options.seed)),
                   options.items * distances.back()};
  topic.measure.run = [=, text = std::string_view(c.text)](const Model& model, const Model*, const OnPart& on_part) {
    const Tokenizer& tokenizer = tokenizer_of(model);
    RepetitionOptions mine = options;
    mine.bos = tokenizer.adds_bos();
    const std::vector<DistanceProbe> probes = repeat_spans(tokenizer, filler_of(text, tokenizer), distances, mine);
    const auto on_tokens = [&](int64_t done, int64_t total) { on_part(static_cast<double>(done) / static_cast<double>(total)); };
    const auto rows = measure_repetition(*model.decoder, probes, possible(model.config(), probes, distances), on_tokens);
    return Json::object({{"repetition", to_json(rows)}, {"positions_known", position_limit(model.config())}});
  };
  topic.figures = [](const Json& report) {
    std::vector<Figure> figures;
    for (const Json& row : report.at("repetition").as_array())
      figures.push_back(at_distance(report, row, "gain", "gain_stderr", Unit::nats, 0));
    return figures;
  };
  topic.curves = [](const Json& report) {
    return std::vector<Curve>{curve_of(report, "repetition", "gain", "nats saved on a span again", 1)};
  };
  return topic;
}

}  // namespace

std::vector<Topic> recall_topics(Comparison& c) {
  constexpr int64_t kAround = 512;  // of facts, and of text before them
  const int64_t there = static_cast<int64_t>(filler_of(c.text, *c.tokenizer).size()) - kAround;
  const int64_t most = std::min(c.options.context, there);
  if (most < 64) {
    c.notes.push_back(format("%s has %ld tokens, too few to plant facts 64 tokens apart: recall is not measured", c.options.text.c_str(),
                             static_cast<long>(there + kAround)));
    return {};
  }
  const std::vector<int64_t> distances = doubling_distances(most);
  return {fact_topic(c, distances, 1), fact_topic(c, distances, kAmong), repetition_topic(c, distances)};
}

}  // namespace supra
