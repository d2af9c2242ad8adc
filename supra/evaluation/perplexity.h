#pragma once
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "nn/decoder.h"
#include "supra/tokenizers/tokenizer.h"
#include "tensor/file.h"

namespace supra {

struct TextOptions {
  std::string separator;    // of documents; empty: the text is one sequence cut into windows
  int64_t max_documents = 0, max_tokens = 0;  // 0: all
  int64_t context = 512;    // ids of a sequence, BOS included
  bool bos = true;
};

// Ids of a sequence unless told otherwise: the model's context, at most `most`. A sequence goes through the model in one pass,
// and all of a context of 131,072 tokens would need more memory than the model.
int64_t default_context(const Config& config, int64_t most = 2048);

// The sequences a text is scored as. With a separator each document is one, cut off at `context`; without, the text is
// cut into windows of `context`, BOS before the first.
std::vector<std::vector<int32_t>> scoring_sequences(const Tokenizer& tokenizer, std::string_view text,
                                                    const TextOptions& options);

// The same of a file; in JSON lines each line's "text" is a document. Throws Error naming the file where it is compressed or a
// shard, and where there is no token to predict.
std::vector<std::vector<int32_t>> read_sequences(const Tokenizer& tokenizer, const Path& file, const TextOptions& options);

// About so many predicted tokens of them, in whole sequences that lie evenly over all; at least one sequence.
std::vector<std::vector<int32_t>> spread_sample(const std::vector<std::vector<int32_t>>& sequences, int64_t tokens);

// Tokens that are predicted: all of a sequence but its first.
int64_t predicted_tokens(const std::vector<std::vector<int32_t>>& sequences);

// What was predicted at positions [from, to) of a sequence.
struct Band {
  int64_t from, to, tokens = 0;
  double nll = 0, error = 0;  // mean -log p, nats, and its standard error
};

struct Perplexity {
  int64_t tokens = 0;     // predicted ones: all of a sequence but its first
  double nll = 0;         // mean -log p, nats
  double error = 0;       // its standard error over tokens
  std::vector<Band> by_position;  // from 0, 128, then doubling; as far as there are tokens
  double seconds = 0;
};

// Called now and then with the tokens done and the tokens there are.
using OnScored = std::function<void(int64_t done, int64_t total)>;

// Mean negative log-likelihood of the sequences, in batches of different lengths. `recurrent` decodes token by token
// instead of taking the chunked form: the same number, slowly.
Perplexity evaluate(const Decoder& decoder, const std::vector<std::vector<int32_t>>& sequences, bool recurrent = false,
                    const OnScored& on_scored = {});

// Bytes of text that the predicted ids stand for.
int64_t predicted_bytes(const Tokenizer& tokenizer, const std::vector<std::vector<int32_t>>& sequences);

// nats a token -> bits a byte
double bits_per_byte(double nll, int64_t tokens, int64_t bytes);

}  // namespace supra
