#pragma once
#include <string>
#include <string_view>
#include <vector>

#include "supra/tokenizers/tokenizer.h"
#include "tensor/file.h"
#include "tensor/tensor.h"

// Text in, batches of token ids out.

namespace supra {

// The documents of a text: cut at `separator`, newlines at both ends stripped, empty ones left out. Without a separator
// the text is one document, untouched.
std::vector<std::string_view> split_documents(std::string_view text, std::string_view separator);

// A document's ids, BOS in front where `bos` asks for it and the tokenizer has one.
std::vector<int32_t> encode_document(const Tokenizer& tokenizer, std::string_view document, bool bos);

// The encoded documents of some files, all in a row, each with its BOS.
struct Corpus {
  std::vector<int32_t> ids;
  std::vector<int64_t> starts;  // where each document begins; one more at the end
  int64_t bytes = 0;            // of text

  int64_t documents() const { return static_cast<int64_t>(starts.size()) - 1; }
};

// Reads and encodes in parallel. Throws Error naming the file when there is nothing in it.
Corpus read_corpus(const std::vector<Path>& files, const Tokenizer& tokenizer, const std::string& separator);

struct Batch {
  Tensor tokens;   // (B,T) i32
  Tensor targets;  // (B,T) i32, the token after each
};

// An endless stream: the documents in a new random order every epoch, one behind the other, cut into windows of T. Windows
// start anywhere and span documents, as in the paper. The stream is a function of the seed and of one number, the
// position, so a resumed run reads on exactly where it stopped.
class BatchLoader {
 public:
  BatchLoader(const Corpus& corpus, int64_t rows, int64_t T, uint64_t seed);

  Batch next();
  int64_t position() const { return position_; }  // tokens handed out
  void seek(int64_t position) { position_ = position; }

 private:
  int32_t at(int64_t position);  // the stream's token there
  void load_epoch(int64_t epoch);

  const Corpus& corpus_;
  int64_t rows_, T_;
  uint64_t seed_;
  int64_t position_ = 0;
  int64_t epoch_ = -1;
  std::vector<int32_t> stream_;  // the ids in this epoch's order
};

}  // namespace supra
