#include "tools/reach.h"

#include <algorithm>
#include <cstdio>

#include "tools/human.h"
#include "tools/progress.h"
#include "tools/window_report.h"

namespace supra {

Json to_json(const std::vector<Band>& by_position) {
  Json rows = Json::array();
  for (const Band& band : by_position) {
    Json row = Json::object();
    row.set("from", band.from);
    row.set("to", band.to);
    row.set("tokens", band.tokens);
    row.set("nll", band.nll);
    row.set("stderr", band.error);
    rows.push(std::move(row));
  }
  return rows;
}

int64_t longest_window(const Config& config) {
  int64_t longest = 0;
  for (const int64_t i : layers_with(config, MixerKind::window)) longest = std::max(longest, config.windows[i]);
  return longest;
}

std::vector<PartsVariant> with_teacher(const Model* teacher, const Config& student, std::vector<PartsVariant> rows) {
  if (!teacher) return rows;
  CHECK(teacher->config().vocab == student.vocab,
        "--teacher: has a vocabulary of %ld, the model one of %ld; the same ids must mean the same text (give the model it was made from)",
        static_cast<long>(teacher->config().vocab), static_cast<long>(student.vocab));
  rows.insert(rows.begin(), {"teacher", teacher->decoder});
  return rows;
}

int eval_mixer_parts(const Model& model, const Model* teacher, const Path& text, TextOptions options, bool json) {
  const std::vector<PartsVariant> variants = with_teacher(teacher, model.config(), parts_variants(*model.decoder));
  const Tokenizer& tokenizer = tokenizer_of(model);
  // positions within the windows would not show the difference
  if (options.context == 0) options.context = default_context(model.config(), 4096);
  const auto sequences = read_sequences(tokenizer, text, options);
  const int64_t total = predicted_tokens(sequences), window = longest_window(model.config());
  size_t longest = 0;
  for (const auto& ids : sequences) longest = std::max(longest, ids.size());
  if (window >= static_cast<int64_t>(longest)) {
    print_note(format("the longest window has %ld keys and the longest sequence %zu tokens: such layers see the whole sequence (a longer text or "
                      "--context tells more)",
                      static_cast<long>(window), longest));
  }

  std::vector<Perplexity> results;
  {
    Progress progress("tokens", static_cast<int64_t>(variants.size()) * total);
    for (size_t i = 0; i < variants.size(); i++) {
      const auto on_scored = [&](int64_t done, int64_t) { progress.update(static_cast<int64_t>(i) * total + done, variants[i].parts); };
      const bool known = i > 0 && variants[i].decoder == variants[i - 1].decoder;
      results.push_back(known ? results.back() : evaluate(*variants[i].decoder, sequences, false, on_scored));
    }
  }
  if (json) {
    Json report = Json::object(), rows = Json::array();
    for (size_t i = 0; i < variants.size(); i++) {
      Json row = Json::object();
      row.set("parts", variants[i].parts);
      row.set("nll", results[i].nll);
      row.set("stderr", results[i].error);
      row.set("bits_per_byte", bits_per_byte(results[i].nll, total, predicted_bytes(tokenizer, sequences)));
      row.set("state_bytes", static_cast<int64_t>(variants[i].decoder->state_bytes(options.context)));
      row.set("by_position", to_json(results[i].by_position));
      row.set("seconds", results[i].seconds);
      rows.push(std::move(row));
    }
    report.set("rows", std::move(rows));
    report.set("tokens", total);
    report.set("sequences", static_cast<int64_t>(sequences.size()));
    report.set("context", options.context);
    printf("%s\n", report.dump().c_str());
    return 0;
  }
  printf("nats a token, %s tokens of %zu sequences of at most %ld, by position\n", format_count(static_cast<double>(total)).c_str(),
         sequences.size(), static_cast<long>(options.context));
  printf("%-13s %9s %7s", "parts", "state", "all");
  for (const Band& band : results[0].by_position) {
    printf(" %11s", format("%ld-%ld", static_cast<long>(band.from), static_cast<long>(band.to - 1)).c_str());
  }
  printf("\n");
  for (size_t i = 0; i < variants.size(); i++) {
    const std::string bytes = format_bytes(static_cast<double>(variants[i].decoder->state_bytes(options.context)));
    printf("%-13s %9s %7.4f", variants[i].parts.c_str(), bytes.c_str(), results[i].nll);
    for (const Band& band : results[i].by_position) printf(" %11.4f", band.nll);
    printf("\n");
  }
  return 0;
}

}  // namespace supra
