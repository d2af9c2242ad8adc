#include <algorithm>
#include <cstdio>
#include <optional>

#include "supra/evaluation/measure.h"
#include "supra/tokenizers/corpus.h"
#include "tools/human.h"
#include "tools/progress.h"
#include "tools/reach.h"

namespace supra {

static void set_mean(Json& row, const std::string& key, const Mean& mean) {
  row.set(key, mean.mean());
  row.set(key == "accuracy" ? "stderr" : key + "_stderr", mean.error());
}

// The figures at each distance; none at distances without questions.
static Json rows_of(const std::vector<RecallAt>& recall, const std::vector<std::pair<const char*, std::function<const Mean&(const RecallAt&)>>>& figures) {
  Json rows = Json::array();
  for (const RecallAt& at : recall) {
    const int64_t items = figures[0].second(at).n;
    if (items == 0) continue;
    Json row = Json::object({{"distance", at.distance}});
    for (const auto& [key, mean] : figures) set_mean(row, key, mean(at));
    row.set("items", items);
    row.set("positions", at.positions);
    rows.push(std::move(row));
  }
  return rows;
}

static Json fact_rows(const std::vector<RecallAt>& recall, FactRecall RecallAt::*part) {
  const auto of = [&](Mean FactRecall::*figure) { return [=](const RecallAt& at) -> const Mean& { return at.*part.*figure; }; };
  return rows_of(recall, {{"accuracy", of(&FactRecall::accuracy)},
                          {"rank", of(&FactRecall::rank)},
                          {"probability", of(&FactRecall::probability)},
                          {"greedy", of(&FactRecall::greedy)}});
}

Json to_json(const std::vector<RecallAt>& recall) {
  const auto of = [&](Mean Repetition::*figure) { return [=](const RecallAt& at) -> const Mean& { return at.again.*figure; }; };
  Json report = Json::object();
  report.set("recall", fact_rows(recall, &RecallAt::one));
  report.set("recall_among", fact_rows(recall, &RecallAt::among));
  report.set("repetition", rows_of(recall, {{"first", of(&Repetition::first)}, {"second", of(&Repetition::second)}, {"gain", of(&Repetition::gain)}}));
  return report;
}

// The questions, which are the same for every model.
struct Questions {
  std::vector<int64_t> distances;
  std::vector<DistanceProbe> probes;
};

// At the given distances, or at all that fit into the text and the models' positions.
static Questions questions_for(const std::vector<PartsVariant>& variants, const Tokenizer& tokenizer, const std::vector<int32_t>& text,
                               std::vector<int64_t> distances, const FactOptions& options) {
  constexpr int64_t kMost = 8192, kAround = 512;  // of facts and lead
  const bool given = !distances.empty();
  if (!given) distances = doubling_distances(std::max<int64_t>(64, std::min(kMost, static_cast<int64_t>(text.size()) - kAround)));
  std::sort(distances.begin(), distances.end());
  Questions questions = {distances, plant_facts(tokenizer, text, distances, options)};
  const auto too_short = [&](const PartsVariant& variant) {
    const int64_t limit = position_limit(variant.decoder->config());
    return limit > 0 && positions_at(questions.probes, questions.distances.back()) > limit;
  };
  for (;;) {
    const auto variant = std::find_if(variants.begin(), variants.end(), too_short);
    if (variant == variants.end()) break;
    std::vector<int64_t>& left = questions.distances;
    CHECK(!given && left.size() > 1, "--distances %ld: needs %ld tokens, but the softmax model%s has only %ld positions (give smaller ones)",
          static_cast<long>(left.back()), static_cast<long>(positions_at(questions.probes, left.back())),
          variant->parts == "teacher" ? " of --teacher" : "", static_cast<long>(position_limit(variant->decoder->config())));
    left.pop_back();
  }
  if (!given && questions.distances.back() < kMost)
    print_note(format("distances end at %ld tokens: the text, or the positions of a model, end before %ld",
                      static_cast<long>(questions.distances.back()), static_cast<long>(2 * questions.distances.back())));
  return questions;
}

struct RecallRow {
  std::string parts;
  std::vector<RecallAt> recall;
};

static std::vector<RecallRow> measure(const std::vector<PartsVariant>& variants, const Questions& questions) {
  std::optional<Progress> progress;
  int64_t before = 0, last = 0;
  std::vector<RecallRow> rows;
  for (const PartsVariant& variant : variants) {
    const auto on_tokens = [&](int64_t done, int64_t total) {
      if (!progress) progress.emplace("tokens", total * static_cast<int64_t>(variants.size()));
      progress->update(before + done, variant.parts);
      last = total;
    };
    rows.push_back({variant.parts, recall_facts(*variant.decoder, questions.probes, questions.distances, on_tokens)});
    before += last;
  }
  return rows;
}

static void print_header(const std::string& title, const std::vector<RecallAt>& recall) {
  printf("%s\n%-24s", title.c_str(), "");
  for (const RecallAt& at : recall) printf(" %12ld", static_cast<long>(at.distance));
  printf("\n");
}

// A figure of a model by distance, times `unit`; "-" at distances without questions.
template <class Figure>
static void print_figure(const std::string& name, const std::vector<RecallAt>& recall, double unit, int digits, const Figure& figure) {
  printf("%-24s", name.c_str());
  for (const RecallAt& at : recall) {
    const Mean& mean = figure(at);
    printf(" %12s", mean.n == 0 ? "-" : format("%.*f +- %.*f", digits, unit * mean.mean(), digits, unit * mean.error()).c_str());
  }
  printf("\n");
}

static void print_tables(const std::vector<RecallRow>& rows, const FactOptions& options) {
  const long items = static_cast<long>(options.items), numbers = static_cast<long>(options.alternatives), facts = static_cast<long>(options.facts);
  const std::string one = format("a planted fact, asked for at distances in tokens: %% where the right number of %ld is the likeliest (%ld texts, "
                                 "%.0f by chance)",
                                 numbers, items, 100.0 / static_cast<double>(numbers));
  const std::string among = format("one of %ld such facts (%ld for a model that knows the numbers, but not whose they are)", facts, 100 / facts);
  for (const auto& [title, part] : {std::pair(one, &RecallAt::one), std::pair(among, &RecallAt::among)}) {
    print_header(title, rows[0].recall);
    for (const RecallRow& row : rows) {
      const auto print = [&, part = part](const std::string& name, Mean FactRecall::*figure, double unit, int digits) {
        print_figure(name, row.recall, unit, digits, [&](const RecallAt& at) -> const Mean& { return at.*part.*figure; });
      };
      print(row.parts, &FactRecall::accuracy, 100, 0);
      print("  its probability, %", &FactRecall::probability, 100, 0);
      print("  its rank", &FactRecall::rank, 1, 1);
      print("  written by greedy, %", &FactRecall::greedy, 100, 0);
    }
  }
  print_header(format("a span of %ld tokens again: nats a token", static_cast<long>(options.span)), rows[0].recall);
  for (const RecallRow& row : rows) {
    print_figure(row.parts, row.recall, 1, 2, [](const RecallAt& at) -> const Mean& { return at.again.second; });
    print_figure("  less than at first", row.recall, 1, 2, [](const RecallAt& at) -> const Mean& { return at.again.gain; });
  }
}

int eval_recall(const Model& model, const Model* teacher, const Path& file, std::vector<int64_t> distances, const FactOptions& given, bool json) {
  std::vector<PartsVariant> variants = {{"all", model.decoder}};
  if (longest_window(model.config()) > 0) {
    variants = parts_variants(*model.decoder);
    const auto all = variants[0].decoder;
    std::erase_if(variants, [&](const auto& v) { return v.parts != "all" && (v.parts != "window" || v.decoder == all); });
  }
  variants = with_teacher(teacher, model.config(), variants);
  const Tokenizer& tokenizer = tokenizer_of(model);
  const MappedFile text = open_text(file);
  FactOptions options = given;
  options.filler_name = file.string();
  const Questions questions = questions_for(variants, tokenizer, tokenizer.encode(text.text()), std::move(distances), options);
  const std::vector<RecallRow> rows = measure(variants, questions);
  if (!json) {
    print_tables(rows, options);
    return 0;
  }
  Json report = Json::object(), list = Json::array();
  for (const RecallRow& row : rows) {
    Json part = Json::object({{"parts", row.parts}});
    merge(part, to_json(row.recall));
    if (row.parts == "all") merge(report, to_json(row.recall));
    list.push(std::move(part));
  }
  report.set("rows", std::move(list));
  report.set("items", options.items);
  report.set("alternatives", options.alternatives);
  report.set("among", options.facts);
  report.set("seed", static_cast<int64_t>(options.seed));
  printf("%s\n", report.dump().c_str());
  return 0;
}

}  // namespace supra
