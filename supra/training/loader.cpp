#include "supra/training/loader.h"

#include <algorithm>
#include <limits>
#include <numeric>
#include <utility>

#include "kernels/ops.h"
#include "tensor/error.h"
#include "tensor/random.h"

namespace supra {

// Of these the first that fits goes into a row.
constexpr size_t kLookAhead = 64;

const char* name_of(Packing packing) {
  switch (packing) {
    case Packing::stream: return "stream";
    case Packing::documents: return "documents";
    case Packing::carried: return "carried";
  }
  fail("training data: unknown packing %d", static_cast<int>(packing));
}

BatchLoader::BatchLoader(const Corpus& corpus, int64_t rows, int64_t T, uint64_t seed, Packing packing,
                         int64_t longest)
    : corpus_(corpus), rows_(rows), T_(T), seed_(seed), packing_(packing), longest_(longest) {
  CHECK(!corpus.sources.empty(), "training data: there is no text (give it with --data)");
  for (const Source& source : corpus.sources) {
    const long tokens = static_cast<long>(source.tokens()), documents = static_cast<long>(source.documents());
    CHECK(tokens >= 2, "training data: %ld tokens, at least 2 are needed (give more text with --data)",
          tokens);
    CHECK(tokens > documents,
          "training data: none of %ld documents has 2 tokens, so there is nothing to predict (give longer ones)",
          documents);
    CHECK(packing != Packing::stream || source.marks().end >= 0 || documents == 1,
          "training data: this tokenizer has neither EOS nor BOS to separate the %ld documents of a "
          "stream (use --pack documents)",
          documents);
    CHECK(documents <= std::numeric_limits<uint32_t>::max(),
          "training data: %ld documents in one file (cut it in two)", documents);
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
        "training data: position %ld is not one of batches of %ld rows", static_cast<long>(position),
        static_cast<long>(rows_));
  if (position < position_) rewind();
  while (position_ < position) next_row();
}

// The source that is furthest behind its weight, as seats are given by Webster's method: the parts are right
// at any time, not only in the end.
BatchLoader::Reader& BatchLoader::due() {
  const auto owed = [&](size_t s) {
    return (static_cast<double>(readers_[s].dealt) + static_cast<double>(T_) / 2) / corpus_.sources[s].weight;
  };
  size_t best = 0;
  for (size_t s = 1; s < readers_.size(); s++) {
    if (owed(s) < owed(best)) best = s;
  }
  return readers_[best];
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
    for (size_t i = reader.order.size(); i > 1; i--)
      std::swap(reader.order[i - 1], reader.order[random.below(i)]);
  }
  const int64_t document = reader.order[reader.next++];
  const int64_t begin = source.start(document), end = source.start(document + 1);
  const bool reads_end = packing_ == Packing::stream && source.marks().end != source.marks().begin;
  return {&source, begin, begin, reads_end ? end : std::max(begin, end - 1), reads_end};
}

BatchLoader::Piece BatchLoader::Cursor::take(int64_t most) {
  const int64_t steps = std::min(most, end - at);
  const Piece piece = {source, at, steps, at + steps, at == begin, reads_end && at + steps == end};
  at += steps;
  return piece;
}

std::vector<BatchLoader::Piece> BatchLoader::stream_row(Reader& reader) {
  Cursor& cursor = reader.cursor;
  const auto find_token = [&] {
    while (cursor.at == cursor.end) cursor = next_document(reader);
  };
  std::vector<Piece> row;
  for (int64_t left = T_; left > 0; left -= row.back().steps) {
    find_token();
    row.push_back(cursor.take(left));
    if (!row.back().crosses) continue;
    find_token();
    row.back().target = cursor.at;
  }
  return row;
}

void BatchLoader::look_ahead(Reader& reader) {
  Cursor& cursor = reader.cursor;
  while (reader.ahead.size() < kLookAhead) {
    if (cursor.at < cursor.end) {
      reader.ahead.push_back(cursor.take(T_));
      reader.ahead.back().fresh = true;
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
  int64_t left = T_;
  for (size_t i = 0; i < ahead.size() && left > 0;) {
    if (ahead[i].steps > left) {
      i++;
      continue;
    }
    left -= ahead[i].steps;
    row.push_back(ahead[i]);
    ahead.erase(ahead.begin() + static_cast<int64_t>(i));
    if (!ahead.empty()) look_ahead(reader);
  }
  return row;
}

std::vector<BatchLoader::Piece> BatchLoader::carried_row(Cursor& lane) {
  std::vector<Piece> row;
  for (int64_t left = T_; left > 0; left -= row.back().steps) {
    while (lane.at == lane.end) {
      Reader& reader = due();
      lane = next_document(reader);
      // a document without a step counts as one, lest a source of such be asked for ever
      reader.dealt += std::max<int64_t>(1, lane.end - lane.at);
    }
    const int64_t seen = longest_ > 0 ? (lane.at - lane.begin) % longest_ : lane.at - lane.begin;
    row.push_back(lane.take(longest_ > 0 ? std::min(left, longest_ - seen) : left));
    row.back().fresh = seen == 0;
  }
  return row;
}

std::vector<BatchLoader::Piece> BatchLoader::next_row() {
  const int64_t row = position_++ % rows_;
  if (packing_ == Packing::carried) return carried_row(lanes_[row]);
  Reader& reader = due();
  reader.dealt += T_;
  return packing_ == Packing::stream ? stream_row(reader) : packed_row(reader);
}

Batch BatchLoader::next() {
  Batch batch;
  batch.first_row = position_;
  batch.tokens = Tensor::zeros({rows_, T_}, Dtype::i32);
  batch.targets = Tensor::full({rows_, T_}, kIgnore, Dtype::i32);
  bool padded = false;
  for (int64_t b = 0; b < rows_; b++) {
    int32_t *tokens = batch.tokens.data<int32_t>() + b * T_,
            *targets = batch.targets.data<int32_t>() + b * T_;
    const std::vector<Piece> row = next_row();
    std::vector<int64_t> cuts;
    int64_t column = 0;
    for (const Piece& piece : row) {
      if (piece.fresh && column > 0) cuts.push_back(column);
      for (int64_t i = 0; i < piece.steps; i++) tokens[column + i] = piece.source->id(piece.begin + i);
      std::copy(tokens + column + 1, tokens + column + piece.steps, targets + column);
      column += piece.steps;
      batch.steps += piece.steps;
      // nobody knows how a document goes on that was cut off
      const bool cut_off = piece.crosses && tokens[column - 1] != piece.source->marks().end;
      if (cut_off) batch.steps--;
      else targets[column - 1] = piece.source->id(piece.target);
    }
    padded = padded || column < T_;
    batch.lengths.push_back(column);
    if (packing_ != Packing::stream) batch.cuts.push_back(std::move(cuts));
    if (packing_ == Packing::carried) batch.goes_on.push_back(!row[0].fresh);
  }
  if (!padded) batch.lengths.clear();
  return batch;
}

}  // namespace supra
