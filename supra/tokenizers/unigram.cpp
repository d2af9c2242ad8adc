#include "supra/tokenizers/unigram.h"

#include <algorithm>
#include <limits>

#include "supra/tokenizers/unicode.h"
#include "tensor/error.h"

namespace supra {

Unigram::Unigram(const std::vector<Piece>& pieces, const PieceTable& table)
    : pieces_(pieces),
      table_(table),
      lowest_(std::numeric_limits<float>::max()),
      highest_(std::numeric_limits<float>::lowest()) {
  for (const Piece& piece : pieces) {
    if (piece.type != Piece::Type::normal && piece.type != Piece::Type::user_defined) continue;
    longest_ = std::max(longest_, piece.text.size());
    if (piece.type != Piece::Type::normal) continue;
    lowest_ = std::min(lowest_, piece.score);
    highest_ = std::max(highest_, piece.score);
  }
}

void Unigram::encode(std::string_view text, const PairMerger::Emit& emit) const {
  // the best way to get to a place: its sum and its last piece
  struct Way {
    float sum = 0;
    int32_t id = -1, begin = -1;
  };
  CHECK(text.size() < INT32_MAX, "tokenizer: 2 GiB of text without a break (cut it into documents)");
  std::vector<Way> ways(text.size() + 1);
  const float unknown = lowest_ - 10.0f;
  for (size_t at = 0; at < text.size();) {
    const size_t character = first_character(text.substr(at)).size;
    const float before = ways[at].sum;
    const auto offer = [&](size_t size, float score, int32_t id) {
      Way& way = ways[at + size];
      if (way.begin < 0 || before + score > way.sum) way = {before + score, id, static_cast<int32_t>(at)};
    };
    bool covered = false;
    for (size_t size = 1; size <= std::min(longest_, text.size() - at); size++) {
      if (size > 1 && !table_.may_join(text[at + size - 2], text[at + size - 1])) break;
      const int32_t id = table_.find(text.substr(at, size));
      if (id < 0) continue;
      const bool user_defined = pieces_[id].type == Piece::Type::user_defined;
      // such a piece beats any other way to cover its bytes
      offer(size,
            user_defined ? static_cast<float>(static_cast<float>(size) * highest_ - 0.1) : pieces_[id].score,
            id);
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
