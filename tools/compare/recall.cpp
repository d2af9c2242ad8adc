#include <algorithm>

#include "tools/compare/topics.h"
#include "tools/eval_tasks.h"
#include "tools/reach.h"

// Topics about what loss and accuracy do not show: answering by letter, and forgetting.

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

// The distances at which a model can be asked: all, unless it has learned positions, which limit it.
std::vector<int64_t> possible(const Config& config, const std::vector<DistanceProbe>& probes, std::vector<int64_t> distances) {
  if (config.learned_positions) std::erase_if(distances, [&](int64_t d) { return positions_at(probes, d) > config.context; });
  return distances;
}

std::string beyond(const Json& report, const Json& row) {
  const int64_t known = report.integer("positions_known");
  if (known == 0 || row.integer("positions") <= known) return "";
  return format("beyond the %ld positions that this softmax model knows", static_cast<long>(known));
}

// The ids of the text from which filler and spans are taken.
std::vector<int32_t> filler_of(std::string_view text, const Tokenizer& tokenizer) {
  constexpr size_t kMost = 4 << 20;
  return tokenizer.encode(text.substr(0, kMost));
}

// Makes rows of the table and a curve from a list of the report: `figure` by distance.
struct RecallList {
  std::string name, row, panel, figure, error;
  Unit unit;
  double chance;
};

std::vector<RecallList> lists_of(const FactOptions& options) {
  const double chance = 1 / static_cast<double>(options.alternatives);
  const std::string among = format("one of %ld facts", static_cast<long>(options.facts));
  return {{"recall", "a fact", "% of facts found", "accuracy", "stderr", Unit::percent, chance},
          {"recall_among", among, "% found: " + among, "accuracy", "stderr", Unit::percent, chance},
          {"repetition", "a span again, nats saved", "nats saved on a span again", "gain", "gain_stderr", Unit::nats, 0}};
}

}  // namespace

std::optional<Topic> recall_topic(Comparison& c) {
  constexpr int64_t kAround = 512;  // of facts, and of text before them
  const int64_t there = static_cast<int64_t>(filler_of(c.text, *c.tokenizer).size()) - kAround;
  const int64_t most = std::min(c.options.context, there);
  if (most < 64) {
    c.notes.push_back(format("%s has %ld tokens, too few to plant facts 64 tokens apart: recall is not measured", c.options.text.c_str(),
                             static_cast<long>(there + kAround)));
    return {};
  }
  const std::vector<int64_t> distances = doubling_distances(most);
  const FactOptions options = {.items = c.options.facts, .seed = c.options.seed, .filler_name = c.options.text.string()};
  const std::vector<RecallList> lists = lists_of(options);
  Topic topic;
  topic.title = format("told so many tokens back: %% where the right number of %ld is the likeliest, nats a token saved on a span of %ld (%ld texts)",
                       static_cast<long>(options.alternatives), static_cast<long>(options.span), static_cast<long>(options.items));
  topic.measure = {"recall",
                   format("%ld at %ld of text %s seed %llu", static_cast<long>(options.items), static_cast<long>(distances.back()),
                          hash_of_text(c.text).c_str(), static_cast<unsigned long long>(options.seed)),
                   options.items * distances.back()};
  topic.measure.run = [=, text = std::string_view(c.text)](const Model& model, const Model*, const OnPart& on_part) {
    const Tokenizer& tokenizer = tokenizer_of(model);
    FactOptions mine = options;
    mine.bos = tokenizer.adds_bos();
    const std::vector<DistanceProbe> probes = plant_facts(tokenizer, filler_of(text, tokenizer), distances, mine);
    const auto on_tokens = [&](int64_t done, int64_t total) { on_part(static_cast<double>(done) / static_cast<double>(total)); };
    const std::vector<int64_t> asked = possible(model.config(), probes, distances);
    // the model has too few positions for all distances
    Json report = to_json(asked.empty() ? std::vector<RecallAt>() : recall_facts(*model.decoder, probes, asked, on_tokens));
    report.set("positions_known", position_limit(model.config()));
    return report;
  };
  topic.figures = [=](const Json& report) {
    std::vector<Figure> figures;
    for (const RecallList& list : lists) {
      for (const Json& row : report.at(list.name).as_array()) {
        figures.push_back({list.row + ", at " + std::to_string(row.integer("distance")), list.unit, row.number(list.figure),
                           row.number(list.error), list.chance});
        figures.back().note = beyond(report, row);
      }
    }
    return figures;
  };
  topic.curves = [=](const Json& report) {
    std::vector<Curve> curves;
    for (const RecallList& list : lists) {
      const double unit = list.unit == Unit::percent ? 100 : 1;
      Curve& curve = curves.emplace_back(Curve{"recall", list.panel, "distance, tokens", {}, {}});
      if (list.unit == Unit::percent) curve.chance = unit * list.chance;
      for (const Json& row : report.at(list.name).as_array()) {
        curve.x.push_back(static_cast<double>(row.integer("distance")));
        curve.y.push_back(unit * row.number(list.figure));
      }
    }
    return curves;
  };
  return topic;
}

}  // namespace supra
