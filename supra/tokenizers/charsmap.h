#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace supra {

// SentencePiece's precompiled_charsmap (normalizer.cc, github google/sentencepiece), the rules of nmt_nfkc
// and its like: u32 size in bytes of a double-array trie (darts-clone), its units, then the texts it points
// to, each ended by a zero.
class CharsMap {
 public:
  CharsMap() = default;
  // Copies what it needs of `bytes`. Throws Error naming `where`, also for a text that is not UTF-8.
  CharsMap(std::string_view bytes, const std::string& where);

  // The longest beginning of a text that a rule replaces: its size, 0 if there is none, and what it becomes.
  struct Rule {
    size_t size = 0;
    std::string_view text;
  };
  Rule match(std::string_view text) const { return match(text, false); }
  // The same, or the shortest one.
  Rule match(std::string_view text, bool shortest) const;

 private:
  std::vector<uint32_t> units_;
  std::string texts_;
};

// What a text of base 64 says (RFC 4648). Throws Error naming `where` for one that is none.
std::string bytes_of_base64(std::string_view text, const std::string& where);

}  // namespace supra
