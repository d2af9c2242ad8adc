#pragma once
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "nn/decoder.h"
#include "supra/formats/file.h"
#include "supra/tokenizers/tokenizer.h"

namespace supra {

struct TextOptions {
  std::string separator;    // between documents; empty: the text is one sequence, cut into windows
  int64_t max_documents = 0, max_tokens = 0;  // 0: all
  int64_t context = 512;    // ids of a sequence, including BOS
  bool bos = true;
};

// The default number of ids of a sequence: the model's context, at most `most`. A sequence is computed in one pass, and a whole
// context of 131,072 tokens would need more memory than the model.
int64_t default_context(const Config& config, int64_t most = 2048);

// The sequences in which a text is scored. With a separator each document is one sequence, cut off at `context`. Without it the
// text is cut into windows of `context`, with BOS before the first.
std::vector<std::vector<int32_t>> scoring_sequences(const Tokenizer& tokenizer, std::string_view text,
                                                    const TextOptions& options);

// The same for a file; in JSON lines each line's "text" is a document. Throws Error naming the file if it is compressed or a
// shard, or if there is no token to predict.
std::vector<std::vector<int32_t>> read_sequences(const Tokenizer& tokenizer, const Path& file, const TextOptions& options);

// A sample of about this many predicted tokens: whole sequences at even distances, at least one.
std::vector<std::vector<int32_t>> spread_sample(const std::vector<std::vector<int32_t>>& sequences, int64_t tokens);

// The number of predicted tokens: all of a sequence except its first.
int64_t predicted_tokens(const std::vector<std::vector<int32_t>>& sequences);

// The loss at positions [from, to) of a sequence.
struct Band {
  int64_t from, to, tokens = 0;
  double nll = 0, error = 0;  // mean -log p, nats, and its standard error
};

struct Perplexity {
  int64_t tokens = 0;     // predicted tokens: all of a sequence except its first
  double nll = 0;         // mean -log p, nats
  double error = 0;       // its standard error over tokens
  std::vector<Band> by_position;  // from 0 and from 128, then doubling, as far as there are tokens
  double seconds = 0;
};

// Called from time to time with the number of finished tokens and of all tokens.
using OnScored = std::function<void(int64_t done, int64_t total)>;

// Mean negative log-likelihood of the sequences, in batches of different lengths. `recurrent` decodes token by token
// instead of using the chunked form: the same number, but slowly.
Perplexity evaluate(const Decoder& decoder, const std::vector<std::vector<int32_t>>& sequences, bool recurrent = false,
                    const OnScored& on_scored = {});

// The number of bytes of text of the predicted ids.
int64_t predicted_bytes(const Tokenizer& tokenizer, const std::vector<std::vector<int32_t>>& sequences);

// nats per token -> bits per byte
double bits_per_byte(double nll, int64_t tokens, int64_t bytes);

}  // namespace supra
