#include <algorithm>

#include "supra/evaluation/agreement.h"
#include "supra/evaluation/text_sample.h"
#include "supra/tokenizers/corpus.h"
#include "tools/compare/topics.h"
#include "tools/human.h"
#include "tools/reach.h"

// The topics about held-out text: the loss, the agreement with the teacher, and the loss by position.

namespace supra {
namespace {

using Parts = std::vector<std::string_view>;
using Sequences = std::vector<std::vector<int32_t>>;

std::string count(int64_t n) { return format_count(static_cast<double>(n)); }

// The parts as ids of a model, in windows of `context`. Drops a short window at the end of a part, because it has too little
// context. `first_alone`: only the first window of each part.
Sequences windows_of(const Parts& parts, const Tokenizer& tokenizer, int64_t context, bool first_alone = false) {
  const size_t size = static_cast<size_t>(context);
  Sequences sequences;
  for (const std::string_view part : parts) {
    const std::vector<int32_t> ids = encode_document(tokenizer, part, tokenizer.adds_bos());
    for (size_t at = 0; at < ids.size() && (at == 0 || !first_alone); at += size) {
      const size_t n = std::min(size, ids.size() - at);
      if (at > 0 && n < size / 16) break;
      sequences.emplace_back(ids.begin() + at, ids.begin() + at + n);
    }
  }
  CHECK(predicted_tokens(sequences) > 0, "the text has no token to predict (--text names a longer one)");
  return sequences;
}

std::string key_of(const Parts& parts, int64_t context) {
  std::string all;
  for (const std::string_view part : parts) all += hash_of_text(part);
  return format("text %s in %ld", hash_of_text(all).c_str(), static_cast<long>(context));
}

OnScored scored(const OnPart& on_part) {
  return [on_part](int64_t done, int64_t total) { on_part(static_cast<double>(done) / static_cast<double>(total)); };
}

// Parts of the text for sequences of this many tokens.
Parts parts_of(const Comparison& c, int64_t context) {
  const int64_t parts = std::max<int64_t>(1, c.options.text_tokens / context);
  return text_parts(c.text, *c.tokenizer, context, parts);
}

// The length of the short sequences: at most what every model can read.
int64_t short_context(const Comparison& c) {
  const int64_t most = std::min<int64_t>(2048, c.options.context);
  return c.shared_context > 0 ? std::min(most, c.shared_context) : most;
}

std::string title_of(const Comparison& c, const Parts& parts, int64_t context) {
  size_t bytes = 0;
  for (const std::string_view part : parts) bytes += part.size();
  return format("%s, %zu part%s of at most %ld tokens, %s", c.options.text.filename().c_str(), parts.size(), parts.size() == 1 ? "" : "s",
                static_cast<long>(context), format_bytes(static_cast<double>(bytes)).c_str());
}

}  // namespace

Topic text_topic(const Comparison& c) {
  const int64_t context = short_context(c);
  const Parts parts = parts_of(c, context);
  Topic topic;
  topic.title = title_of(c, parts, context);
  topic.measure = {"text", key_of(parts, context), static_cast<int64_t>(parts.size()) * context};
  topic.measure.run = [=](const Model& model, const Model*, const OnPart& on_part) {
    const Tokenizer& tokenizer = tokenizer_of(model);
    const Sequences sequences = windows_of(parts, tokenizer, context);
    const Perplexity result = evaluate(*model.decoder, sequences, false, scored(on_part));
    const int64_t bytes = predicted_bytes(tokenizer, sequences);
    const auto bits = [&](double nll) { return bits_per_byte(nll, result.tokens, bytes); };
    const double frequency = frequency_nll(sequences);
    return Json::object({{"tokens", result.tokens},
                         {"nll", result.nll},
                         {"stderr", result.error},
                         {"nll_by_frequency", frequency},
                         {"bits_per_byte", bits(result.nll)},
                         {"bits_per_byte_stderr", bits(result.error)},
                         {"bits_per_byte_by_frequency", bits(frequency)},
                         {"context", context}});
  };
  topic.figures = [](const Json& report) {
    std::vector<Figure> figures = {
        {"bits a byte", Unit::bits, report.number("bits_per_byte"), report.number("bits_per_byte_stderr"),
         report.number("bits_per_byte_by_frequency")},
        {"nats a token", Unit::nats, report.number("nll"), report.number("stderr"), report.number("nll_by_frequency")}};
    for (Figure& figure : figures) figure.falls = true;
    return figures;
  };
  return topic;
}

Topic agreement_topic(const Comparison& c) {
  const int64_t context = short_context(c);
  const Parts parts = parts_of(c, context);
  Topic topic;
  topic.title = title_of(c, parts, context);
  topic.measure = {"agreement", key_of(parts, context), 2 * static_cast<int64_t>(parts.size()) * context, true};
  topic.measure.run = [=, tokenizer = c.tokenizer](const Model& model, const Model* teacher, const OnPart& on_part) {
    const Agreement result = measure_agreement(*teacher->decoder, *model.decoder, windows_of(parts, *tokenizer, context), scored(on_part));
    return Json::object({{"kl", result.kl.mean()},
                         {"kl_stderr", result.kl.error()},
                         {"top1_agreement", result.top1.mean()},
                         {"top1_agreement_stderr", result.top1.error()},
                         {"nll_above_teacher", result.above.mean()},
                         {"nll_above_teacher_stderr", result.above.error()}});
  };
  topic.figures = [](const Json& report) {
    return std::vector<Figure>{
        {"nats above the teacher", Unit::nats, report.number("nll_above_teacher"), report.number("nll_above_teacher_stderr")},
        {"KL from the teacher", Unit::nats, report.number("kl"), report.number("kl_stderr")},
        {"same first choice, %", Unit::percent, report.number("top1_agreement"), report.number("top1_agreement_stderr")}};
  };
  return topic;
}

static Figure band_figure(const Json& band, int64_t known) {
  const int64_t from = band.integer("from"), to = band.integer("to");
  Figure figure = {format("%ld-%ld", static_cast<long>(from), static_cast<long>(to - 1)), Unit::nats, band.number("nll"),
                   band.number("stderr")};
  if (known > 0 && to > known) figure.note = format("beyond the %ld positions that this softmax model knows", static_cast<long>(known));
  return figure;
}

Topic position_topic(Comparison& c) {
  const int64_t context = c.options.context;
  const Parts parts = parts_of(c, context);
  const int64_t longest = static_cast<int64_t>(c.tokenizer->encode(parts[0]).size());
  if (parts.size() == 1 && longest < context - 1) {
    c.notes.push_back(format("%s has %s tokens, fewer than --context %ld: positions end there", c.options.text.c_str(),
                             count(longest).c_str(), static_cast<long>(context)));
  }
  Topic topic;
  topic.title = "nats a token by position: " + title_of(c, parts, context);
  topic.measure = {"positions", key_of(parts, context), static_cast<int64_t>(parts.size()) * context};
  topic.measure.run = [=](const Model& model, const Model*, const OnPart& on_part) {
    const Config& config = model.config();
    const int64_t most = config.learned_positions ? std::min(config.context, context) : context;
    const Perplexity result = evaluate(*model.decoder, windows_of(parts, tokenizer_of(model), most, true), false, scored(on_part));
    return Json::object({{"by_position", to_json(result.by_position)}, {"positions_known", position_limit(config)}});
  };
  topic.figures = [](const Json& report) {
    std::vector<Figure> figures;
    for (const Json& band : report.at("by_position").as_array()) {
      figures.push_back(band_figure(band, report.integer("positions_known")));
      figures.back().row += format(" (%s)", count(band.integer("tokens")).c_str());
    }
    return figures;
  };
  topic.curves = [](const Json& report) {
    Curve curve = {"by_position", "nats a token", "position in the text, tokens", {}, {}};
    for (const Json& band : report.at("by_position").as_array()) {
      curve.x.push_back(static_cast<double>(band.integer("to")));
      curve.y.push_back(band.number("nll"));
    }
    return std::vector<Curve>{curve};
  };
  return topic;
}

}  // namespace supra
