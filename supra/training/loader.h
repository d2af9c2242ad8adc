#pragma once
#include <vector>

#include "supra/tokenizers/corpus.h"
#include "tensor/tensor.h"

// Batches of a corpus, without end.

namespace supra {

enum class Packing {
  stream,     // one document behind the other, windows of T anywhere, as in the paper: no cuts
  documents,  // whole documents, packed into rows; longer ones in pieces of T steps; what is left is padding
  carried,    // each row goes on where it ended in the batch before: for truncated back-propagation
};

const char* name_of(Packing packing);

// A step is a token with the one behind it as its target. A document of n ids, its marks among them, has n - 1
// steps: what ends it is a target, and is not read. A stream reads the end too, unless the next document begins
// with that very mark, and predicts the beginning of the next document from it.
struct Batch {
  Tensor tokens, targets;  // (B,T) i32; a target is kIgnore where a row is padding
  std::vector<std::vector<int64_t>>
      cuts;                      // a row: columns above 0 where state and position start anew; empty: stream
  std::vector<int64_t> lengths;  // (B) steps before the padding; empty where all are T
  std::vector<bool> goes_on;     // carried: whether the row's state is the one it ended with; else empty
  int64_t steps = 0;             // that count in the loss: those with a target
  int64_t first_row = 0;         // the loader's position of its first row
};

// The documents of every source in a new random order each epoch; with several sources, rows are dealt by
// their weights (documents, where they are carried). The stream is a function of the seed and of one number,
// the position, so that a resumed run reads on exactly where it stopped.
class BatchLoader {
 public:
  // The corpus must outlive it. `longest`: steps after which a carried document begins anew, for who knows no
  // positions beyond; 0: never.
  BatchLoader(const Corpus& corpus, int64_t rows, int64_t T, uint64_t seed,
              Packing packing = Packing::stream, int64_t longest = 0);

  Batch next();
  int64_t position() const { return position_; }  // rows handed out
  // Skips to a position. Costs some nanoseconds per row and document; reads no tokens.
  void seek(int64_t position);

 private:
  // Steps in a row of one document.
  struct Piece {
    const Source* source;
    int64_t begin, steps;
    int64_t target;  // where that of the last step stands
    bool fresh;      // state and position start anew
    bool crosses = false;  // that target is in another document
  };
  // Where reading a document has come to.
  struct Cursor {
    const Source* source = nullptr;
    int64_t begin = 0, at = 0, end = 0;  // end: of the steps
    bool reads_end = false;              // the document's last id is a step, not only a target
    Piece take(int64_t most);
  };
  // One source: its order of documents, and how far it is.
  struct Reader {
    std::vector<uint32_t> order;
    size_t next = 0;
    int64_t epoch = -1, dealt = 0;  // dealt: steps
    Cursor cursor;
    std::vector<Piece> ahead;  // documents: what the next rows are chosen from
  };

  Reader& due();
  bool epoch_ends(const Reader& reader) const { return reader.next == reader.order.size(); }
  Cursor next_document(Reader& reader);
  void look_ahead(Reader& reader);
  std::vector<Piece> next_row();
  std::vector<Piece> stream_row(Reader& reader);
  std::vector<Piece> packed_row(Reader& reader);
  std::vector<Piece> carried_row(Cursor& lane);
  void rewind();

  const Corpus& corpus_;
  int64_t rows_, T_;
  uint64_t seed_;
  Packing packing_;
  int64_t longest_;
  int64_t position_ = 0;
  std::vector<Reader> readers_;
  std::vector<Cursor> lanes_;  // carried: a row's document
};

}  // namespace supra
