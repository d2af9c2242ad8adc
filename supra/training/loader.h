#pragma once
#include <vector>

#include "kernels/ops.h"
#include "supra/tokenizers/corpus.h"
#include "tensor/parallel.h"

// An endless sequence of batches from a corpus.

namespace supra {

enum class Packing {
  stream,     // one long stream of documents, rows of T tokens anywhere in it, as in the paper: no cuts
  documents,  // whole documents packed into rows; longer ones in pieces of T steps; the rest of a row is padding
  carried,    // each row continues where it ended in the previous batch: for truncated back-propagation
};

const char* name_of(Packing packing);

// A step is a token with the next token as its target. A document of n ids, including its marks, has n - 1 steps: its last id
// is only a target. In a stream the last id is also a step whose target is the beginning of the next document, unless the next
// document begins with the same mark.
struct Batch {
  Tensor tokens, targets;        // (B,T) i32; the targets of padding are kIgnore
  Cuts cuts;                     // per row: columns above 0 where state and position are reset; empty: stream
  std::vector<int64_t> lengths;  // (B) steps before the padding; empty if all are T
  std::vector<bool> goes_on;     // carried: whether the row continues from its last state; otherwise empty
  int64_t first_row = 0;         // the loader's position of its first row

  int64_t steps() const;  // those that count in the loss: with a target
  Batch rows(int64_t begin, int64_t end) const;
};

// Each epoch has the documents of every source in a new random order. Rows (or documents, if carried) are chosen by the weights
// of the sources. Batches depend only on the seed and the position, so a resumed run continues where it stopped.
class BatchLoader {
 public:
  // The corpus must outlive the loader. `longest`: a carried document is reset after so many steps; 0: never.
  BatchLoader(const Corpus& corpus, int64_t rows, int64_t T, uint64_t seed, Packing packing = Packing::stream,
              int64_t longest = 0);

  Batch next();
  int64_t position() const { return position_; }  // rows returned so far
  void seek(int64_t position);                    // reads no tokens

 private:
  // Consecutive steps of a document.
  struct Piece {
    const Source* source;
    int64_t begin, steps;
    bool fresh;            // state and position are reset
    int64_t target;        // the place of the last step's target
    bool crosses = false;  // the target is in another document
  };
  // The reading position in a document.
  struct Cursor {
    const Source* source = nullptr;
    int64_t begin = 0, at = 0, end = 0;  // end: of the steps
  };
  // One source: its order of documents, and its progress.
  struct Reader {
    std::vector<uint32_t> order;
    size_t next = 0;
    int64_t epoch = -1, dealt = 0;  // dealt: steps
    Cursor cursor;
    std::vector<Piece> ahead;  // documents: the candidates for the next rows
  };

  // Whether a document's last id is a step, not only a target.
  bool reads_end(const Tokenizer::DocumentMarks& marks) const { return packing_ == Packing::stream && marks.end != marks.begin; }
  bool epoch_ends(const Reader& reader) const { return reader.next == reader.order.size(); }
  Reader& due();
  Cursor next_document(Reader& reader);
  Piece take(Cursor& cursor, int64_t most) const;
  void look_ahead(Reader& reader);
  std::vector<Piece> next_row();
  std::vector<Piece> packed_row(Reader& reader);
  std::vector<Piece> unpadded_row(Cursor& cursor, FunctionRef<Cursor()> next);
  void rewind();

  const Corpus& corpus_;
  int64_t rows_, T_;
  uint64_t seed_;
  Packing packing_;
  int64_t longest_;  // steps after which a document is reset
  int64_t position_ = 0;
  std::vector<Reader> readers_;
  std::vector<Cursor> lanes_;  // carried: a row's document
};

}  // namespace supra
