#include <algorithm>
#include <cstdio>

#include "supra/tokenizers/corpus.h"
#include "tools/human.h"
#include "tools/progress.h"
#include "tools/reach.h"

namespace supra {

// facts told at once, of which one is asked for
constexpr int64_t kAmong = 4;

static void set_mean(Json& row, const std::string& key, const Mean& mean, const std::string& error_key = "") {
  row.set(key, mean.mean());
  row.set(error_key.empty() ? key + "_stderr" : error_key, mean.error());
}

Json to_json(const std::vector<FactRecall>& recall) {
  Json rows = Json::array();
  for (const FactRecall& at : recall) {
    Json row = Json::object();
    row.set("distance", at.distance);
    set_mean(row, "accuracy", at.accuracy, "stderr");
    set_mean(row, "rank", at.rank);
    set_mean(row, "probability", at.probability);
    set_mean(row, "greedy", at.greedy);
    row.set("items", at.accuracy.n);
    row.set("positions", at.positions);
    rows.push(std::move(row));
  }
  return rows;
}

Json to_json(const std::vector<Repetition>& repetition) {
  Json rows = Json::array();
  for (const Repetition& at : repetition) {
    Json row = Json::object();
    row.set("distance", at.distance);
    set_mean(row, "first", at.first);
    set_mean(row, "second", at.second);
    set_mean(row, "gain", at.gain);
    row.set("items", at.gain.n);
    row.set("positions", at.positions);
    rows.push(std::move(row));
  }
  return rows;
}

// What is asked, the same of every model.
struct Questions {
  std::vector<int64_t> distances, repeated;  // the latter: those that are not less than a span
  std::vector<DistanceProbe> one, among, spans;
};

static Questions make_questions(const Tokenizer& tokenizer, const std::vector<int32_t>& text, const std::vector<int64_t>& distances,
                                FactOptions facts) {
  const RepetitionOptions spans = {.items = facts.items, .seed = facts.seed, .bos = facts.bos, .text_name = facts.filler_name};
  Questions questions{distances, distances, {}, {}, {}};
  std::erase_if(questions.repeated, [&](int64_t distance) { return distance < spans.span; });
  questions.one = plant_facts(tokenizer, text, distances, facts);
  facts.facts = kAmong;
  questions.among = plant_facts(tokenizer, text, distances, facts);
  if (!questions.repeated.empty()) questions.spans = repeat_spans(tokenizer, text, questions.repeated, spans);
  return questions;
}

static int64_t positions_at(const Questions& questions, int64_t distance) {
  return std::max({positions_at(questions.one, distance), positions_at(questions.among, distance), positions_at(questions.spans, distance)});
}

// The distances that were asked for, or those that text and models have room for.
static Questions questions_for(const std::vector<PartsVariant>& variants, const Tokenizer& tokenizer, const std::vector<int32_t>& text,
                               std::vector<int64_t> distances, const FactOptions& options) {
  constexpr int64_t kMost = 8192, kAround = 512;  // of facts and lead
  const bool given = !distances.empty();
  if (!given) distances = doubling_distances(std::max<int64_t>(64, std::min(kMost, static_cast<int64_t>(text.size()) - kAround)));
  std::sort(distances.begin(), distances.end());
  Questions questions = make_questions(tokenizer, text, distances, options);
  const auto too_short = [&](const PartsVariant& variant) {
    const int64_t limit = position_limit(variant.decoder->config());
    return limit > 0 && positions_at(questions, distances.back()) > limit;
  };
  for (;;) {
    const auto variant = std::find_if(variants.begin(), variants.end(), too_short);
    if (variant == variants.end()) break;
    CHECK(!given && distances.size() > 1, "--distances %ld: takes %ld tokens, the softmax model%s knows %ld positions (give smaller ones)",
          static_cast<long>(distances.back()), static_cast<long>(positions_at(questions, distances.back())),
          variant->parts == "teacher" ? " of --teacher" : "", static_cast<long>(position_limit(variant->decoder->config())));
    distances.pop_back();
    questions = make_questions(tokenizer, text, distances, options);
  }
  if (!given && distances.back() < kMost)
    print_note(format("distances end at %ld tokens: the text, or what one of the models knows, ends before %ld", static_cast<long>(distances.back()),
                      static_cast<long>(2 * distances.back())));
  return questions;
}

struct RecallRow {
  std::string parts;
  std::vector<FactRecall> one, among;
  std::vector<Repetition> repetition;
};

static std::vector<RecallRow> measure(const std::vector<PartsVariant>& variants, const Questions& questions) {
  const auto tokens = [](const std::vector<DistanceProbe>& probes) {
    int64_t n = 0;
    for (const DistanceProbe& probe : probes) n += static_cast<int64_t>(probe.text.size());
    return n;
  };
  const int64_t each = tokens(questions.one) + tokens(questions.among) + tokens(questions.spans);
  Progress progress("tokens", each * static_cast<int64_t>(variants.size()));
  int64_t before = 0;
  std::vector<RecallRow> rows;
  for (const PartsVariant& variant : variants) {
    const auto asking = [&](const std::vector<DistanceProbe>& probes, const char* what) {
      const int64_t from = before;
      before += tokens(probes);
      return [&progress, from, text = variant.parts + ", " + what](int64_t done, int64_t) { progress.update(from + done, text); };
    };
    RecallRow& row = rows.emplace_back(RecallRow{variant.parts, {}, {}, {}});
    row.one = recall_facts(*variant.decoder, questions.one, questions.distances, asking(questions.one, "one fact"));
    row.among = recall_facts(*variant.decoder, questions.among, questions.distances, asking(questions.among, "one of several facts"));
    if (questions.repeated.empty()) continue;
    row.repetition = measure_repetition(*variant.decoder, questions.spans, questions.repeated, asking(questions.spans, "repetition"));
  }
  return rows;
}

static void print_header(const std::string& title, const std::vector<int64_t>& distances) {
  printf("%s\n%-24s", title.c_str(), "");
  for (const int64_t distance : distances) printf(" %12ld", static_cast<long>(distance));
  printf("\n");
}

// One figure of a model by distance, times `unit`.
template <class Row>
static void print_figure(const std::string& name, const std::vector<Row>& rows, Mean Row::*figure, double unit, int digits) {
  printf("%-24s", name.c_str());
  for (const Row& row : rows) {
    const Mean& mean = row.*figure;
    printf(" %12s", format("%.*f +- %.*f", digits, unit * mean.mean(), digits, unit * mean.error()).c_str());
  }
  printf("\n");
}

static void print_tables(const std::vector<RecallRow>& rows, const Questions& questions) {
  const long numbers = static_cast<long>(questions.one[0].endings.size());
  for (const bool among : {false, true}) {
    std::string title = format("%zu planted facts, asked for at distances in tokens: %% where the right number of %ld is the likeliest (by chance "
                               "%.0f)",
                               questions.one.size(), numbers, 100.0 / static_cast<double>(numbers));
    if (among) {
      title = format("the same of one fact among %ld told at once (%d for a model that knows the numbers, but not whose they are)",
                     static_cast<long>(kAmong), static_cast<int>(100 / kAmong));
    }
    print_header(title, questions.distances);
    for (const RecallRow& row : rows) {
      const auto& recall = among ? row.among : row.one;
      print_figure(row.parts, recall, &FactRecall::accuracy, 100, 0);
      print_figure("  its probability, %", recall, &FactRecall::probability, 100, 0);
      print_figure("  its rank", recall, &FactRecall::rank, 1, 1);
      print_figure("  written by greedy, %", recall, &FactRecall::greedy, 100, 0);
    }
  }
  if (questions.repeated.empty()) return;
  print_header("nats a token of a span of 64 tokens that occurs a second time", questions.repeated);
  for (const RecallRow& row : rows) {
    print_figure(row.parts + ", second", row.repetition, &Repetition::second, 1, 2);
    print_figure("  less than the first", row.repetition, &Repetition::gain, 1, 2);
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
    print_tables(rows, questions);
    return 0;
  }
  Json report = Json::object(), list = Json::array();
  for (const RecallRow& row : rows) {
    Json part = Json::object();
    part.set("parts", row.parts);
    for (Json* to : {&part, row.parts == "all" ? &report : nullptr}) {
      if (!to) continue;
      to->set("recall", to_json(row.one));
      to->set("recall_among", to_json(row.among));
      to->set("repetition", to_json(row.repetition));
    }
    list.push(std::move(part));
  }
  report.set("rows", std::move(list));
  report.set("items", options.items);
  report.set("alternatives", options.alternatives);
  report.set("among", kAmong);
  report.set("seed", static_cast<int64_t>(options.seed));
  printf("%s\n", report.dump().c_str());
  return 0;
}

}  // namespace supra
