#include "supra/training/self_data.h"

#include <algorithm>

#include "supra/inference/sampler.h"
#include "supra/tokenizers/shard.h"
#include "tensor/error.h"

namespace supra {

// The number of documents that are sampled at once: as many as decode fast, fewer if their states are large or none would end.
static int64_t rows_at_once(const Decoder& teacher, int64_t tokens) {
  constexpr int64_t kMostRows = 32, kMostBytes = 512 << 20;
  const int64_t context = teacher.config().context, bytes = static_cast<int64_t>(teacher.state_bytes(context));
  return std::clamp<int64_t>(std::min(kMostBytes / std::max<int64_t>(1, bytes), tokens / context), 1, kMostRows);
}

void write_self_data(const Path& path, const Decoder& teacher, const Tokenizer& tokenizer, int64_t tokens, uint64_t seed,
                     FunctionRef<void(int64_t drawn)> on_drawn) {
  const int64_t O = teacher.config().vocab, context = teacher.config().context, B = rows_at_once(teacher, tokens);
  const Tokenizer::DocumentMarks marks = tokenizer.document_marks();
  // without a BOS, a document begins after the EOS of the one before
  const int32_t first = marks.begin >= 0 ? marks.begin : marks.end;
  CHECK(first >= 0, "%s: the teacher's tokenizer has neither BOS nor EOS to begin a document (give a text with --data)",
        path.c_str());
  CHECK(tokenizer.size() <= O, "%s: the tokenizer has %d pieces, the teacher's vocabulary %ld tokens (name its own with --tokenizer)",
        path.c_str(), tokenizer.size(), static_cast<long>(O));
  const NoGrad off;
  ShardWriter shard(path, tokenizer);
  State state = teacher.init_state(B);
  std::vector<std::vector<int32_t>> documents(B, {first});
  std::vector<Sampler> samplers;
  SamplerOptions options = {.temperature = 1, .top_p = 1, .seed = seed * static_cast<uint64_t>(B)};
  for (; samplers.size() < documents.size(); options.seed++) samplers.emplace_back(options);
  const auto add_document = [&](std::vector<int32_t>& ids, bool ended) {
    if (ids.size() < 2) return;
    const int64_t text_bytes = static_cast<int64_t>(tokenizer.decode({ids.begin() + 1, ids.end()}).size());
    if (marks.begin < 0) ids.erase(ids.begin());
    if (ended) ids.push_back(marks.end);
    shard.add({ids, text_bytes, 0});
  };

  for (int64_t drawn = 0; drawn < tokens; drawn += B) {
    std::vector<int32_t> last(B);
    std::transform(documents.begin(), documents.end(), last.begin(), [](const auto& ids) { return ids.back(); });
    const Tensor logits = teacher.logits(teacher.hidden(Tensor::of(last, {B, 1}), &state)).value();
    // a padded vocabulary has ids beyond the tokenizer's
    const std::vector<int32_t> next = Sampler::choose_rows(samplers, logits.view({B, O}), tokenizer.size());
    for (int64_t b = 0; b < B; b++) {
      std::vector<int32_t>& ids = documents[b];
      const bool ended = tokenizer.is_end(next[b]);
      if (!ended) ids.push_back(next[b]);
      if (!ended && static_cast<int64_t>(ids.size()) < context) continue;
      add_document(ids, ended);
      ids = {first};
      state.reset_row(b);
    }
    on_drawn(std::min(drawn + B, tokens));
  }
  for (std::vector<int32_t>& ids : documents) add_document(ids, false);
  CHECK(shard.documents() > 0, "%s: every document that the teacher wrote is empty (give a text with --data)", path.c_str());
  shard.finish();
}

}  // namespace supra
