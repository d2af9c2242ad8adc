#include "supra/tokenizers/word_model.h"

#include <algorithm>
#include <utility>

#include "supra/tokenizers/piece_tokenizer.h"
#include "supra/tokenizers/unicode.h"
#include "tensor/error.h"

namespace supra {

static constexpr size_t kLongestKnown = 64, kMostKnownBytes = 32 << 20;

WordModel::WordModel(Spec spec, const std::string& where) : spec_(std::move(spec)) {
  byte_ids_.fill(-1);
  // the last of equal pieces counts
  for (size_t i = spec_.pieces.size(); i-- > 0;) {
    const std::string& piece = spec_.pieces[i];
    if (piece.empty() || (spec_.hidden.contains(piece) && static_cast<int32_t>(i) != spec_.unknown)) continue;
    if (!table_.add(piece, static_cast<int32_t>(i))) continue;
    if (const int byte = byte_of(piece); byte >= 0) byte_ids_[static_cast<size_t>(byte)] = static_cast<int32_t>(i);
  }
  if (!spec_.scores.empty()) unigram_.emplace(spec_.pieces, spec_.scores, table_);
  // the scores of merges are descending integers, exact in f32
  CHECK(spec_.merges.size() < 1 << 24, "%s: %zu merges, fewer than 2^24 are supported", where.c_str(), spec_.merges.size());
  std::string whole;
  for (size_t i = 0; i < spec_.merges.size(); i++) {
    const auto& [left, right] = spec_.merges[i];
    whole = left + right;
    if (spec_.hidden.contains(whole)) continue;
    CHECK(table_.find(whole) >= 0, "%s: merge %zu makes \"%s\", which is not a piece (the file is damaged)", where.c_str(), i, whole.c_str());
    table_.add_merge(whole, left.size(), -static_cast<float>(i));
  }
}

WordModel::Run::Run(const WordModel& model)
    : model_(model), merger_(model.table_, [this](std::string_view, int32_t id) { ids.push_back(id); }) {}

void WordModel::Run::add(std::string_view word) {
  if (model_.spec_.ignore_merges) {
    const int32_t id = model_.table_.find(word);
    if (id >= 0) return ids.push_back(id);
  }
  const bool keeps = word.size() <= kLongestKnown;
  if (keeps) {
    const auto found = known_.find(std::string(word));
    if (found != known_.end()) {
      ids.insert(ids.end(), found->second.begin(), found->second.end());
      return;
    }
  }
  const auto before = static_cast<std::ptrdiff_t>(ids.size());
  if (model_.unigram_)
    add_pieces(word);
  else
    merge(word);
  if (!keeps || known_bytes_ > kMostKnownBytes) return;
  known_.emplace(word, std::vector<int32_t>(ids.begin() + before, ids.end()));
  known_bytes_ += word.size() + 64;
}

bool WordModel::Run::has_bytes(std::string_view symbol) const {
  return model_.spec_.byte_fallback &&
         std::all_of(symbol.begin(), symbol.end(), [&](char c) { return model_.byte_ids_[static_cast<uint8_t>(c)] >= 0; });
}

// A character that is not a piece becomes the pieces of its bytes or the unknown piece, which merge like others; without either
// its neighbours may merge. As in Hugging Face's library, an unknown piece comes after the bytes of the characters that follow
// it.
void WordModel::Run::merge(std::string_view word) {
  const Spec& spec = model_.spec_;
  bool held = false;
  const auto end_unknown = [&] {
    if (std::exchange(held, false)) merger_.add(spec.pieces[static_cast<size_t>(spec.unknown)]);
  };
  for (size_t at = 0, size; at < word.size(); at += size) {
    size = first_character(word.substr(at)).size;
    const std::string_view symbol = word.substr(at, size);
    if (model_.table_.find(symbol) >= 0) {
      end_unknown();
      merger_.add(symbol);
    } else if (has_bytes(symbol)) {
      for (const char c : symbol) merger_.add(text_of_byte(static_cast<uint8_t>(c)));
    } else if (spec.unknown >= 0) {
      if (!spec.fuse_unknown) end_unknown();
      held = true;
    }
  }
  end_unknown();
  merger_.finish();
}

// A run of characters that are not pieces becomes the pieces of its bytes, or the unknown piece.
void WordModel::Run::add_pieces(std::string_view word) {
  std::string unknown;
  const auto end_unknown = [&] {
    if (unknown.empty()) return;
    const int32_t whole = model_.table_.find(unknown);
    if (whole < 0 && has_bytes(unknown)) {
      for (const char c : unknown) ids.push_back(model_.byte_ids_[static_cast<uint8_t>(c)]);
    } else if (whole >= 0 || model_.spec_.unknown >= 0) {
      ids.push_back(whole >= 0 ? whole : model_.spec_.unknown);
    }
    unknown.clear();
  };
  model_.unigram_->encode(word, [&](std::string_view symbol, int32_t id) {
    if (id < 0 || id == model_.spec_.unknown) {
      unknown += symbol;
    } else {
      end_unknown();
      ids.push_back(id);
    }
  });
  end_unknown();
}

}  // namespace supra
