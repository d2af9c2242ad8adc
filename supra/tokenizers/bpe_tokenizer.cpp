#include "supra/tokenizers/bpe_tokenizer.h"

#include <utility>

#include "supra/tokenizers/piece_tokenizer.h"
#include "supra/tokenizers/unicode.h"
#include "tensor/error.h"

namespace supra {

static constexpr std::string_view kSpace = "\u2581";

BpeTokenizer::BpeTokenizer(const char* kind, BpeVocabulary vocabulary, Marks marks, std::vector<File> files,
                           const std::string& where, std::string chat_template)
    : Tokenizer(kind, static_cast<int32_t>(vocabulary.pieces.size()), marks),
      vocabulary_(std::move(vocabulary)) {
  files_ = std::move(files);
  chat_template_ = std::move(chat_template);
  byte_ids_.fill(-1);
  for (const AddedToken& token : vocabulary_.added) {
    CHECK(token.id >= 0 && token.id < size() && !token.text.empty(),
          "%s: the added token \"%s\" has the id %d of %d", where.c_str(), token.text.c_str(), token.id,
          size());
    added_[token.text] = token.id;
    if (token.special) special_[token.id] = true;
    (token.normalized ? normalized_with_special_ : raw_with_special_).add(token.text);
    if (!token.special) (token.normalized ? normalized_ : raw_).add(token.text);
  }
  for (int32_t id = 0; id < size(); id++) {
    const std::string& piece = vocabulary_.pieces[id];
    if (piece.empty() || special_.contains(id)) continue;
    table_.add(piece, id);
    const int byte = vocabulary_.bytes ? -1 : byte_of(piece);
    if (byte >= 0) byte_ids_[byte] = id;
  }
  // scores fall; f32 holds each of them exactly
  CHECK(vocabulary_.merges.size() < 1 << 24, "%s: %zu merges", where.c_str(), vocabulary_.merges.size());
  std::string whole;
  for (size_t i = 0; i < vocabulary_.merges.size(); i++) {
    const auto& [left, right] = vocabulary_.merges[i];
    whole = left + right;
    CHECK(table_.find(whole) >= 0, "%s: merge %zu makes \"%s\", which is no piece", where.c_str(), i,
          whole.c_str());
    table_.add_merge(whole, left.size(), -static_cast<float>(i));
  }
}

// The words of one call, and what became of them: most come again.
struct BpeTokenizer::Words {
  Ids ids;
  bool after_unknown = false;
  std::unordered_map<std::string, Ids> known;
  size_t known_bytes = 0;
  PairMerger merger;
};

static constexpr size_t kLongestKnown = 64, kMostKnownBytes = 32 << 20;

BpeTokenizer::Ids BpeTokenizer::encode_text(std::string_view text, EncodeOptions options) const {
  Words words = {{}, false, {}, 0, PairMerger(table_, [&](std::string_view symbol, int32_t id) {
                   const bool was_unknown = std::exchange(words.after_unknown, false);
                   if (id >= 0) return words.ids.push_back(id);
                   bool has_bytes = vocabulary_.byte_fallback;
                   for (const char c : symbol)
                     has_bytes = has_bytes && byte_ids_[static_cast<uint8_t>(c)] >= 0;
                   if (has_bytes) {
                     for (const char c : symbol) words.ids.push_back(byte_ids_[static_cast<uint8_t>(c)]);
                     return;
                   }
                   if (vocabulary_.unknown >= 0 && !(was_unknown && vocabulary_.fuse_unknown))
                     words.ids.push_back(vocabulary_.unknown);
                   words.after_unknown = true;
                 })};
  const PrefixMatcher& tokens = options.parse_special ? raw_with_special_ : raw_;
  const PrefixMatcher& later = options.parse_special ? normalized_with_special_ : normalized_;
  // cuts the tokens out of a text and hands on what lies between them
  const auto cut = [&](const PrefixMatcher& matcher, std::string_view whole, auto between) {
    size_t begin = 0, at = 0;
    while (at < whole.size()) {
      const size_t size = matcher.match(whole.substr(at));
      if (size == 0) {
        at++;
        continue;
      }
      if (at > begin) between(whole.substr(begin, at - begin), begin == 0);
      words.ids.push_back(added_.at(whole.substr(at, size)));
      words.after_unknown = false;
      begin = at += size;
    }
    if (at > begin) between(whole.substr(begin), begin == 0);
  };
  cut(tokens, text, [&](std::string_view part, bool beginning) {
    const std::string normal = vocabulary_.nfc ? nfc(part) : std::string(part);
    cut(later, normal, [&](std::string_view rest, bool first) {
      encode_part(rest, beginning && first, options.continues, words);
    });
  });
  return std::move(words.ids);
}

// Spaces as the pieces write them. `beginning`: the part stands first in the text, which may continue
// another.
void BpeTokenizer::encode_part(std::string_view text, bool beginning, bool continues, Words& words) const {
  using Space = BpeVocabulary::Space;
  const bool needs_none = beginning && continues;
  if (vocabulary_.bytes) {
    if (!vocabulary_.prefix_space || needs_none || text.starts_with(' ')) return encode_words(text, words);
    return encode_words(" " + std::string(text), words);
  }
  const bool has = text.starts_with(' ') || text.starts_with(kSpace);
  const bool adds =
      !needs_none && (vocabulary_.space == Space::always || (vocabulary_.space == Space::missing && !has) ||
                      (vocabulary_.space == Space::beginning && beginning && !has));
  std::string spaced(adds ? kSpace : "");
  for (const char c : text) {
    if (c == ' ')
      spaced += kSpace;
    else
      spaced += c;
  }
  encode_words(spaced, words);
}

void BpeTokenizer::encode_words(std::string_view text, Words& words) const {
  const auto encode = [&](std::string_view word) {
    if (vocabulary_.ignore_merges) {
      const int32_t id = table_.find(word);
      if (id >= 0) return words.ids.push_back(id);
    }
    const bool keeps = vocabulary_.bytes && word.size() <= kLongestKnown;
    if (keeps) {
      const auto found = words.known.find(std::string(word));
      if (found != words.known.end()) {
        words.ids.insert(words.ids.end(), found->second.begin(), found->second.end());
        return;
      }
    }
    const size_t before = words.ids.size();
    for (size_t at = 0; at < word.size();) {
      const size_t size = vocabulary_.bytes ? 1 : first_character(word.substr(at)).size;
      words.merger.add(word.substr(at, size));
      at += size;
    }
    words.merger.finish();
    if (!keeps || words.known_bytes > kMostKnownBytes) return;
    words.known.emplace(word, Ids(words.ids.begin() + static_cast<int64_t>(before), words.ids.end()));
    words.known_bytes += word.size() + 64;
  };
  if (vocabulary_.pattern)
    vocabulary_.pattern->each_word(text, encode);
  else
    encode(text);
}

std::string BpeTokenizer::piece_text(int32_t id, bool first) const {
  const std::string& piece = vocabulary_.pieces[id];
  if (vocabulary_.bytes) return piece;
  const int byte = byte_of(piece);
  if (byte >= 0) return {static_cast<char>(byte)};
  std::string_view rest = piece;
  if (first && vocabulary_.space != BpeVocabulary::Space::none && rest.starts_with(kSpace))
    rest.remove_prefix(kSpace.size());
  std::string text;
  while (!rest.empty()) {
    const bool space = rest.starts_with(kSpace);
    text += space ? ' ' : rest[0];
    rest.remove_prefix(space ? kSpace.size() : 1);
  }
  return text;
}

}  // namespace supra
