#include "supra/evaluation/perplexity.h"

#include <algorithm>
#include <chrono>
#include <cmath>

#include "supra/evaluation/mean.h"
#include "supra/tokenizers/corpus.h"
#include "supra/tokenizers/shard.h"

namespace supra {

using Sequences = std::vector<std::vector<int32_t>>;

int64_t default_context(const Config& config, int64_t most) { return config.context > 0 ? std::min(config.context, most) : most; }

// The beginning of band i, and the band of a position.
static int64_t band_edge(size_t i) { return i == 0 ? 0 : int64_t{64} << i; }
static size_t band_of(int64_t position) {
  size_t i = 0;
  while (position >= band_edge(i + 1)) i++;
  return i;
}

// `whole`: the part beyond the context is dropped and not made another sequence.
static Sequences sequences_of(const Tokenizer& tokenizer, const std::vector<std::string_view>& documents, bool whole, const TextOptions& options) {
  CHECK(options.context >= 2, "context %ld: at least 2 tokens are needed, one to read and one to predict",
        static_cast<long>(options.context));
  const size_t context = static_cast<size_t>(options.context);
  size_t left = options.max_tokens > 0 ? static_cast<size_t>(options.max_tokens) : std::string::npos;
  Sequences sequences;
  for (const std::string_view document : documents) {
    if (options.max_documents > 0 && static_cast<int64_t>(sequences.size()) >= options.max_documents) break;
    if (left == 0) break;
    std::vector<int32_t> ids = encode_document(tokenizer, document, options.bos);
    if (whole) ids.resize(std::min(ids.size(), context));
    ids.resize(std::min(ids.size(), left));
    left -= ids.size();
    for (size_t at = 0; at < ids.size(); at += context) {
      sequences.emplace_back(ids.begin() + at, ids.begin() + std::min(ids.size(), at + context));
    }
  }
  return sequences;
}

Sequences scoring_sequences(const Tokenizer& tokenizer, std::string_view text, const TextOptions& options) {
  return sequences_of(tokenizer, split_documents(text, options.separator), !options.separator.empty(), options);
}

Sequences read_sequences(const Tokenizer& tokenizer, const Path& path, const TextOptions& options) {
  CHECK(!is_shard(path), "%s: is a shard, or has the name of one; only text and .jsonl can be scored (give the file that the shard was made from)", path.c_str());
  const MappedFile file = open_text(path);
  Sequences sequences;
  if (is_json_lines(path)) {
    const std::vector<std::string> texts = read_json_lines(path);
    sequences = sequences_of(tokenizer, {texts.begin(), texts.end()}, true, options);
  } else {
    sequences = scoring_sequences(tokenizer, file.text(), options);
  }
  CHECK(predicted_tokens(sequences) > 0, "%s: is too short to score, there is no token to predict", path.c_str());
  return sequences;
}

int64_t predicted_tokens(const Sequences& sequences) {
  int64_t tokens = 0;
  for (const auto& ids : sequences) tokens += std::max<int64_t>(0, static_cast<int64_t>(ids.size()) - 1);
  return tokens;
}

Sequences spread_sample(const Sequences& sequences, int64_t tokens) {
  const double share = static_cast<double>(tokens) / static_cast<double>(std::max<int64_t>(1, predicted_tokens(sequences)));
  Sequences sample;
  double owed = 0;
  for (const auto& ids : sequences) {
    const double size = static_cast<double>(ids.size()) - 1;
    owed += share * size;
    // takes a sequence if that brings the sample closer to its share of the text so far
    if (size <= 0 || owed < size / 2) continue;
    sample.push_back(ids);
    owed -= size;
  }
  const auto shorter = [](const auto& a, const auto& b) { return a.size() < b.size(); };
  if (sample.empty() && !sequences.empty()) sample.push_back(*std::max_element(sequences.begin(), sequences.end(), shorter));
  return sample;
}

// Rows of about the same length, right-padded; padding is ignored by the loss and by the state.
struct ScoringBatch {
  Tensor tokens, targets;        // (B,T) i32
  std::vector<int64_t> lengths;  // predictions per row
};

static ScoringBatch make_batch(const Sequences& sequences, const std::vector<size_t>& rows) {
  ScoringBatch batch;
  int64_t T = 1;
  for (size_t r : rows) {
    batch.lengths.push_back(static_cast<int64_t>(sequences[r].size()) - 1);
    T = std::max(T, batch.lengths.back());
  }
  batch.tokens = Tensor::zeros({static_cast<int64_t>(rows.size()), T}, Dtype::i32);
  batch.targets = Tensor::full(batch.tokens.shape(), kIgnore, Dtype::i32);
  for (size_t i = 0; i < rows.size(); i++) {
    const std::vector<int32_t>& ids = sequences[rows[i]];
    std::copy(ids.begin(), ids.end() - 1, batch.tokens.data<int32_t>() + static_cast<int64_t>(i) * T);
    std::copy(ids.begin() + 1, ids.end(), batch.targets.data<int32_t>() + static_cast<int64_t>(i) * T);
  }
  return batch;
}

// hidden (B,T,C), or its rows, of the batch, in one pass or step by step
static Tensor hidden_of(const Decoder& decoder, const ScoringBatch& batch, bool recurrent) {
  if (!recurrent) return decoder.hidden(batch.tokens, nullptr, batch.lengths).value();
  const int64_t B = batch.tokens.dim(0), T = batch.tokens.dim(1), C = decoder.config().width;
  State state = decoder.init_state(B);
  const Tensor hidden = Tensor::empty({B * T, C}, decoder.activations(), decoder.device()), column = Tensor::empty({B, 1}, Dtype::i32);
  for (int64_t t = 0; t < T; t++) {
    for (int64_t b = 0; b < B; b++) column.data<int32_t>()[b] = batch.tokens.data<int32_t>()[b * T + t];
    const Tensor step = decoder.hidden(column, &state).value();
    for (int64_t b = 0; b < B; b++) hidden.rows(b * T + t, b * T + t + 1).copy_from(step.rows(b, b + 1));
  }
  return hidden;
}

Perplexity evaluate(const Decoder& decoder, const Sequences& sequences, bool recurrent, const OnScored& on_scored) {
  // large enough for fast kernels, small enough that the logits of a block of rows stay in the cache
  constexpr int64_t kBatchTokens = 8192, kLogitRows = 512;
  NoGrad off;
  const auto start = std::chrono::steady_clock::now();
  std::vector<size_t> order;
  int64_t total = 0;
  for (size_t i = 0; i < sequences.size(); i++) {
    if (sequences[i].size() < 2) continue;
    order.push_back(i);
    total += static_cast<int64_t>(sequences[i].size()) - 1;
  }
  CHECK(total > 0, "evaluation: the text is too short, there is no token to predict");
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return sequences[a].size() > sequences[b].size(); });

  Perplexity result;
  Mean all;
  std::vector<Mean> bands;
  for (size_t at = 0; at < order.size();) {
    // the longest of the batch comes first
    const size_t rows = std::max<size_t>(1, kBatchTokens / sequences[order[at]].size());
    const size_t end = std::min(order.size(), at + rows);
    const ScoringBatch batch = make_batch(sequences, {order.begin() + at, order.begin() + end});
    const Tensor hidden = hidden_of(decoder, batch, recurrent).view({-1, decoder.config().width});
    const Tensor targets = batch.targets.view({-1}), losses = Tensor::empty(targets.shape(), Dtype::f32, hidden.device());
    for (int64_t row = 0; row < targets.dim(0); row += kLogitRows) {
      const int64_t last = std::min(targets.dim(0), row + kLogitRows);
      losses.rows(row, last).copy_from(token_nll(decoder.logits(Var(hidden.rows(row, last))).value(), targets.rows(row, last)));
    }
    // waits for a GPU, once per batch
    const Tensor nll = losses.to(Device::cpu);
    for (int64_t i = 0; i < targets.dim(0); i++) {
      if (targets.data<int32_t>()[i] == kIgnore) continue;
      const double x = nll.data<float>()[i];
      all.add(x);
      // column t predicts the id at t + 1
      const size_t band = band_of(i % batch.targets.dim(1) + 1);
      bands.resize(std::max(bands.size(), band + 1));
      bands[band].add(x);
    }
    at = end;
    if (on_scored) on_scored(all.n, total);
  }
  result.tokens = all.n;
  result.nll = all.mean();
  result.error = all.error();
  for (size_t i = 0; i < bands.size(); i++) result.by_position.push_back({band_edge(i), band_edge(i + 1), bands[i].n, bands[i].mean(), bands[i].error()});
  result.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  return result;
}

int64_t predicted_bytes(const Tokenizer& tokenizer, const Sequences& sequences) {
  int64_t bytes = 0;
  for (const auto& ids : sequences) {
    for (size_t i = 1; i < ids.size(); i++) {
      const bool special = tokenizer.is_special(ids[i]);
      bytes += static_cast<int64_t>((special ? tokenizer.mark_text(ids[i]) : tokenizer.piece(ids[i])).size());
    }
  }
  return bytes;
}

double bits_per_byte(double nll, int64_t tokens, int64_t bytes) {
  return bytes > 0 ? nll * static_cast<double>(tokens) / M_LN2 / static_cast<double>(bytes) : 0;
}

}  // namespace supra
