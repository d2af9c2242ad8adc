#include "supra/tokenizers/tokenizer.h"

// Raw bytes: an id is a byte. There are no other ids, so byte 0, which does not occur in texts, begins and ends a document.

namespace supra {

namespace {

class ByteTokenizer : public Tokenizer {
 public:
  ByteTokenizer() : Tokenizer("raw bytes", 256, {.bos = 0, .eos = 0, .bos_in_front = true}) {
    files_ = {{"tokenizer.bytes", "This model reads raw bytes: an id is a byte, byte 0 begins a document.\n"}};
  }

 private:
  std::vector<int32_t> encode_text(std::string_view text, EncodeOptions) const override {
    const auto* bytes = reinterpret_cast<const uint8_t*>(text.data());
    return {bytes, bytes + text.size()};
  }
  std::string piece_text(int32_t id, bool) const override { return {static_cast<char>(id)}; }
  bool is_mark(int32_t) const override { return false; }
};

}  // namespace

std::shared_ptr<const Tokenizer> make_byte_tokenizer() { return std::make_shared<ByteTokenizer>(); }

}  // namespace supra
