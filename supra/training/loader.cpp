#include "supra/training/loader.h"

#include <algorithm>
#include <limits>
#include <numeric>
#include <utility>

#include "tensor/error.h"
#include "tensor/random.h"

namespace supra {

// The first of so many pieces that fits goes into a row.
constexpr size_t kLookAhead = 64;
constexpr int64_t kNever = std::numeric_limits<int64_t>::max();

const char* name_of(Packing packing) {
  static const char* const names[] = {"stream", "documents", "carried"};  // in the order of Packing
  return names[static_cast<int>(packing)];
}

int64_t Batch::steps() const {
  const int32_t* target = targets.data<int32_t>();
  return targets.numel() - std::count(target, target + targets.numel(), kIgnore);
}

Batch Batch::rows(int64_t begin, int64_t end) const {
  const auto part = [&]<class T>(const std::vector<T>& all) {
    return all.empty() ? all : std::vector<T>(all.begin() + begin, all.begin() + end);
  };
  return {tokens.rows(begin, end), targets.rows(begin, end), part(cuts), part(lengths), part(goes_on), first_row + begin};
}

// A document that is packed as a whole is cut into pieces of T steps, each of which is fresh.
BatchLoader::BatchLoader(const Corpus& corpus, int64_t rows, int64_t T, uint64_t seed, Packing packing, int64_t longest)
    : corpus_(corpus), rows_(rows), T_(T), seed_(seed), packing_(packing),
      longest_(packing == Packing::documents ? T : packing == Packing::carried && longest > 0 ? longest : kNever) {
  CHECK(!corpus.sources.empty(), "training data: there is no text (give it with --data)");
  for (const Source& source : corpus.sources) {
    const long tokens = static_cast<long>(source.tokens()), documents = static_cast<long>(source.documents());
    CHECK(tokens >= 2, "training data: %ld tokens, at least 2 are needed (give more text with --data)", tokens);
    CHECK(tokens > documents,
          "training data: none of %ld documents has 2 tokens, so there is nothing to predict (give longer ones)", documents);
    CHECK(packing != Packing::stream || source.marks().end >= 0 || documents == 1,
          "training data: this tokenizer has neither EOS nor BOS to separate the %ld documents of a stream (use --pack documents)",
          documents);
    CHECK(documents <= std::numeric_limits<uint32_t>::max(), "training data: %ld documents in one file (cut it in two)",
          documents);
  }
  rewind();
}

void BatchLoader::rewind() {
  position_ = 0;
  readers_.assign(corpus_.sources.size(), {});
  lanes_.assign(packing_ == Packing::carried ? rows_ : 0, {});
}

void BatchLoader::seek(int64_t position) {
  CHECK(position >= 0 && (packing_ != Packing::carried || position % rows_ == 0),
        "training data: position %ld is not one of batches of %ld rows", static_cast<long>(position), static_cast<long>(rows_));
  if (position < position_) rewind();
  while (position_ < position) next_row();
}

// The source that is furthest behind its weight, as seats are given by Webster's method: the shares are right at any time, not
// only at the end.
BatchLoader::Reader& BatchLoader::due() {
  const auto seats = [&](const Reader& reader) {
    const Source& source = corpus_.sources[&reader - readers_.data()];
    return (static_cast<double>(reader.dealt) + static_cast<double>(T_) / 2) / source.weight;
  };
  return *std::min_element(readers_.begin(), readers_.end(), [&](const auto& a, const auto& b) { return seats(a) < seats(b); });
}

BatchLoader::Cursor BatchLoader::next_document(Reader& reader) {
  const size_t index = static_cast<size_t>(&reader - readers_.data());
  const Source& source = corpus_.sources[index];
  if (epoch_ends(reader)) {
    reader.epoch++;
    reader.next = 0;
    reader.order.resize(source.documents());
    std::iota(reader.order.begin(), reader.order.end(), 0u);
    // Fisher-Yates, from a stream of random numbers that belongs to this source and epoch
    Philox random(seed_, (static_cast<uint64_t>(index) << 40) + 1000 + static_cast<uint64_t>(reader.epoch));
    for (size_t i = reader.order.size(); i > 1; i--) std::swap(reader.order[i - 1], reader.order[random.below(i)]);
  }
  const int64_t document = reader.order[reader.next++];
  const int64_t begin = source.start(document), end = source.start(document + 1);
  return {&source, begin, begin, reads_end(source.marks()) ? end : std::max(begin, end - 1)};
}

BatchLoader::Piece BatchLoader::take(Cursor& cursor, int64_t most) const {
  const int64_t seen = (cursor.at - cursor.begin) % longest_, steps = std::min({most, cursor.end - cursor.at, longest_ - seen});
  const Piece piece = {cursor.source, cursor.at, steps, seen == 0, cursor.at + steps,
                       reads_end(cursor.source->marks()) && cursor.at + steps == cursor.end};
  cursor.at += steps;
  return piece;
}

// A row that is full of steps: of a stream, or of carried documents.
std::vector<BatchLoader::Piece> BatchLoader::unpadded_row(Cursor& cursor, FunctionRef<Cursor()> next) {
  const auto find_step = [&] {
    while (cursor.at == cursor.end) cursor = next();
  };
  std::vector<Piece> row;
  for (int64_t left = T_; left > 0; left -= row.back().steps) {
    find_step();
    row.push_back(take(cursor, left));
    if (!row.back().crosses) continue;
    find_step();
    row.back().target = cursor.at;
  }
  return row;
}

void BatchLoader::look_ahead(Reader& reader) {
  Cursor& cursor = reader.cursor;
  while (reader.ahead.size() < kLookAhead) {
    if (cursor.at < cursor.end) {
      reader.ahead.push_back(take(cursor, T_));
    } else {
      // the last rows of an epoch are built before the next one begins
      if (epoch_ends(reader) && !reader.ahead.empty()) return;
      cursor = next_document(reader);
    }
  }
}

std::vector<BatchLoader::Piece> BatchLoader::packed_row(Reader& reader) {
  look_ahead(reader);
  std::vector<Piece> row, &ahead = reader.ahead;
  for (int64_t left = T_;;) {
    const auto fits = std::find_if(ahead.begin(), ahead.end(), [&](const Piece& piece) { return piece.steps <= left; });
    if (fits == ahead.end()) return row;
    left -= fits->steps;
    row.push_back(*fits);
    ahead.erase(fits);
    if (!ahead.empty()) look_ahead(reader);
  }
}

std::vector<BatchLoader::Piece> BatchLoader::next_row() {
  const int64_t row = position_++ % rows_;
  if (packing_ == Packing::carried) {
    return unpadded_row(lanes_[row], [&] {
      Reader& reader = due();
      const Cursor document = next_document(reader);
      // a document without steps counts as one; otherwise a source of only such documents would be chosen for ever
      reader.dealt += std::max<int64_t>(1, document.end - document.at);
      return document;
    });
  }
  Reader& reader = due();
  reader.dealt += T_;
  if (packing_ == Packing::documents) return packed_row(reader);
  return unpadded_row(reader.cursor, [&] { return next_document(reader); });
}

Batch BatchLoader::next() {
  Batch batch;
  batch.tokens = Tensor::zeros({rows_, T_}, Dtype::i32);
  batch.targets = Tensor::full({rows_, T_}, kIgnore, Dtype::i32);
  batch.first_row = position_;
  for (int64_t b = 0; b < rows_; b++) {
    int32_t *tokens = batch.tokens.data<int32_t>() + b * T_, *targets = batch.targets.data<int32_t>() + b * T_;
    const std::vector<Piece> row = next_row();
    std::vector<int64_t> cuts;
    int64_t column = 0;
    for (const Piece& piece : row) {
      if (piece.fresh && column > 0) cuts.push_back(column);
      for (int64_t i = 0; i < piece.steps; i++) tokens[column + i] = piece.source->id(piece.begin + i);
      std::copy(tokens + column + 1, tokens + column + piece.steps, targets + column);
      column += piece.steps;
      // the end of a document that was cut off has no target
      const bool cut_off = piece.crosses && tokens[column - 1] != piece.source->marks().end;
      if (!cut_off) targets[column - 1] = piece.source->id(piece.target);
    }
    batch.lengths.push_back(column);
    if (packing_ != Packing::stream) batch.cuts.push_back(std::move(cuts));
    if (packing_ == Packing::carried) batch.goes_on.push_back(!row[0].fresh);
  }
  if (std::count(batch.lengths.begin(), batch.lengths.end(), T_) == rows_) batch.lengths.clear();
  return batch;
}

}  // namespace supra
