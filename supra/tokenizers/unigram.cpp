#include "supra/tokenizers/unigram.h"

#include <algorithm>
#include <limits>

#include "supra/tokenizers/unicode.h"
#include "tensor/error.h"

namespace supra {

Unigram::Unigram(const std::vector<Piece>& pieces, const PieceTable& table) : table_(table), single_(true) {
  lowest_ = std::numeric_limits<float>::max();
  highest_ = std::numeric_limits<float>::lowest();
  for (const Piece& piece : pieces) {
    scores_.push_back(static_cast<double>(piece.score));
    user_defined_.push_back(piece.type == Piece::Type::user_defined);
    if (piece.type != Piece::Type::normal && piece.type != Piece::Type::user_defined) continue;
    longest_ = std::max(longest_, piece.text.size());
    if (piece.type != Piece::Type::normal) continue;
    lowest_ = std::min(lowest_, scores_.back());
    highest_ = std::max(highest_, scores_.back());
  }
}

Unigram::Unigram(const std::vector<std::string>& pieces, std::vector<double> scores, const PieceTable& table)
    : scores_(std::move(scores)), table_(table), user_defined_(scores_.size()), single_(false) {
  for (const std::string& piece : pieces) longest_ = std::max(longest_, piece.size());
  if (!scores_.empty()) lowest_ = *std::min_element(scores_.begin(), scores_.end());
}

void Unigram::encode(std::string_view text, const PairMerger::Emit& emit) const {
  // the best way to reach a place: its sum and its last piece
  struct Way {
    double sum = 0;
    int32_t id = -1, begin = -1;
  };
  CHECK(text.size() < INT32_MAX, "tokenizer: 2 GiB of text without a break (cut it into documents)");
  std::vector<Way> ways(text.size() + 1);
  const double unknown = sum(lowest_, -10);
  for (size_t at = 0; at < text.size();) {
    const size_t character = first_character(text.substr(at)).size;
    const double before = ways[at].sum;
    const auto offer = [&](size_t size, double score, int32_t id) {
      const double all = sum(before, score);
      Way& way = ways[at + size];
      if (way.begin < 0 || all > way.sum) way = {all, id, static_cast<int32_t>(at)};
    };
    bool covered = false;
    for (size_t size = 1; size <= std::min(longest_, text.size() - at); size++) {
      if (size > 1 && !table_.may_join(text[at + size - 2], text[at + size - 1])) break;
      const int32_t id = table_.find(text.substr(at, size));
      if (id < 0) continue;
      // a user-defined piece scores higher than any other way to cover its bytes
      const auto place = static_cast<size_t>(id);
      offer(size, user_defined_[place] ? sum(sum(0, static_cast<double>(size) * highest_), -0.1) : scores_[place], id);
      covered = covered || size == character;
    }
    if (!covered) offer(character, unknown, -1);
    at += character;
  }
  std::vector<size_t> ends;
  for (size_t end = text.size(); end > 0; end = static_cast<size_t>(ways[end].begin)) ends.push_back(end);
  for (auto end = ends.rbegin(); end != ends.rend(); ++end) {
    const auto begin = static_cast<size_t>(ways[*end].begin);
    emit(text.substr(begin, *end - begin), ways[*end].id);
  }
}

}  // namespace supra
