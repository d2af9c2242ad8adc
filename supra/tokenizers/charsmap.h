#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace supra {

// SentencePiece's precompiled_charsmap (normalizer.cc, github.com/google/sentencepiece), the rules of nmt_nfkc and similar: u32
// size in bytes of a double-array trie (darts-clone), its units, then the texts it points to, each with a zero at its end.
class CharsMap {
 public:
  CharsMap() = default;
  // Copies the bytes. Throws Error, with `where`, if they are damaged or a text is not UTF-8.
  CharsMap(std::string_view bytes, const std::string& where);

  // The longest (or `shortest`) beginning of a text that a rule replaces: its size, 0 if there is none, and the new text.
  struct Rule {
    size_t size = 0;
    std::string_view text;
  };
  Rule match(std::string_view text, bool shortest = false) const;

 private:
  std::vector<uint32_t> units_;
  std::string texts_;
};

// Decodes base 64 (RFC 4648). Throws Error, with `where`, if the text is not base 64.
std::string bytes_of_base64(std::string_view text, const std::string& where);

}  // namespace supra
