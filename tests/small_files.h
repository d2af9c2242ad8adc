#pragma once
#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

#include "supra/formats/parse/json.h"

// Files of the binary formats that nothing in the product writes, small and of our own making.

namespace supra {

// Builds a GGUF piece by piece.
struct GgufBytes {
  std::string text;

  template <class T>
  GgufBytes& put(T value) {
    text.append(reinterpret_cast<const char*>(&value), sizeof value);
    return *this;
  }
  GgufBytes& put(const std::string& s) {
    put<uint64_t>(s.size());
    text += s;
    return *this;
  }
  template <class T>
  GgufBytes& key(const std::string& name, uint32_t type, const T& value) {
    return put(name).put(type).put(value);
  }
  GgufBytes& tensor(const std::string& name, const std::vector<uint64_t>& sizes, uint32_t type,
                    uint64_t offset) {
    put(name).put<uint32_t>(static_cast<uint32_t>(sizes.size()));
    for (const uint64_t size : sizes) put(size);
    return put(type).put(offset);
  }
  std::string with_data(const std::string& data) const {
    return text + std::string(-text.size() % 32, '\0') + data;
  }
};

inline GgufBytes gguf_head(uint64_t tensors, uint64_t keys, uint32_t version = 3) {
  GgufBytes b;
  b.text = "GGUF";
  return b.put(version).put(tensors).put(keys);
}

// A llama2.c file of a tiny model of zeros.
inline std::string llama2c_text(int version) {
  const int32_t d = 8, hidden = 16, layers = 1, heads = 2, kv_heads = 1, vocab = 12, context = 4, group = 4;
  const int32_t sizes[] = {d, hidden, layers, heads, kv_heads, vocab, context};
  const int32_t kv = d / heads * kv_heads, norms = layers * 2 * d + d;
  const int32_t matrices = layers * (2 * d * d + 2 * kv * d + 3 * hidden * d) + vocab * d;
  std::string text;
  const auto put = [&](const void* p, size_t n) { text.append(static_cast<const char*>(p), n); };
  if (version > 0) {
    const uint32_t magic = 0x616b3432;
    put(&magic, 4);
    put(&version, 4);
  }
  put(sizes, sizeof sizes);
  if (version > 0) {
    text += '\1';
    if (version == 2) put(&group, 4);
    text.resize(256);
  }
  const int32_t rotary = version == 0 ? context * d / heads : 0;
  const int32_t bytes =
      version == 2 ? 4 * (norms + matrices / group) + matrices : 4 * (norms + matrices + rotary);
  text.resize(text.size() + static_cast<size_t>(bytes));
  return text;
}

// A vocabulary of our own, written as either kind of file.
struct TestPiece {
  std::string text;
  float score = 0;
  int type = 1;
};

enum { kNormal = 1, kUnknown, kControl, kUserDefined, kUnused, kByte };

template <class T>
inline std::string raw(T value) {
  return std::string(reinterpret_cast<const char*>(&value), sizeof value);
}

inline std::string bin_file(const std::vector<TestPiece>& pieces) {
  size_t longest = 1;
  for (const TestPiece& piece : pieces) longest = std::max(longest, piece.text.size());
  std::string file = raw(static_cast<int32_t>(longest));
  for (const TestPiece& piece : pieces) {
    file += raw(piece.score) + raw(static_cast<int32_t>(piece.text.size())) + piece.text;
  }
  return file;
}

inline std::string varint(uint64_t value) {
  std::string bytes;
  for (; value >= 0x80; value >>= 7) bytes += static_cast<char>(value | 0x80);
  return bytes + static_cast<char>(value);
}

inline std::string number_field(int field, uint64_t value) { return varint(field << 3) + varint(value); }

inline std::string bytes_field(int field, const std::string& bytes) {
  return varint(field << 3 | 2) + varint(bytes.size()) + bytes;
}

inline std::string float_field(int field, float value) { return varint(field << 3 | 5) + raw(value); }

struct ModelOptions {
  int type = 2;
  bool byte_fallback = false, add_dummy_prefix = true, remove_extra_whitespaces = false;
  std::string charsmap = "";
};

inline std::string model_file(const std::vector<TestPiece>& pieces, const ModelOptions& options = {}) {
  std::string file;
  for (const TestPiece& piece : pieces) {
    file += bytes_field(
        1, bytes_field(1, piece.text) + float_field(2, piece.score) + number_field(3, piece.type));
  }
  file += bytes_field(2, number_field(3, options.type) + number_field(35, options.byte_fallback));
  file += bytes_field(3, bytes_field(1, options.charsmap.empty() ? "identity" : "nmt_nfkc") +
                             bytes_field(2, options.charsmap) + number_field(3, options.add_dummy_prefix) +
                             number_field(4, options.remove_extra_whitespaces));
  return file;
}

inline std::vector<TestPiece> three_marks(bool bin) {
  return {{"<unk>", 0, kUnknown},
          {bin ? "\n<s>\n" : "<s>", 0, kControl},
          {bin ? "\n</s>\n" : "</s>", 0, kControl}};
}

inline std::vector<TestPiece> with_bytes(bool bin) {
  std::vector<TestPiece> pieces = three_marks(bin);
  for (int byte = 0; byte < 256; byte++) pieces.push_back({format("<0x%02X>", byte), 0, kByte});
  return pieces;
}

inline void append(std::vector<TestPiece>& pieces, std::vector<TestPiece> more) {
  pieces.insert(pieces.end(), more.begin(), more.end());
}

// ids: 259 space, 260 a, 261 b, 262 ab, 263 " a", 264 aa
inline std::vector<TestPiece> small_vocabulary(bool bin) {
  const std::string space = bin ? " " : "\u2581";
  std::vector<TestPiece> pieces = with_bytes(bin);
  append(pieces, {{space, -9}, {"a", -9}, {"b", -9}, {"ab", -1}, {space + "a", -2}, {"aa", -3}});
  return pieces;
}

// A tokenizer.json of single bytes and of these special tokens, the first of which are BOS and EOS.
inline std::string bytes_json(const std::vector<std::string>& special) {
  Json all = Json::object(), level = Json::object(), model = Json::object(), vocabulary = Json::object(), added = Json::array();
  level.set("type", "ByteLevel");
  level.set("add_prefix_space", false);
  level.set("use_regex", false);
  int64_t id = 0;
  for (int c = '!'; c <= '~'; c++) vocabulary.set(std::string(1, static_cast<char>(c)), id++);
  for (const char* other : {"\u0120", "\u010a"}) vocabulary.set(other, id++);  // space and line end
  for (const std::string& text : special) {
    Json token = Json::object();
    token.set("id", id++);
    token.set("content", text);
    token.set("special", true);
    added.push(std::move(token));
  }
  model.set("type", "BPE");
  model.set("vocab", std::move(vocabulary));
  model.set("merges", Json::array());
  all.set("pre_tokenizer", level);
  all.set("decoder", level);
  all.set("added_tokens", std::move(added));
  all.set("model", std::move(model));
  return all.dump();
}

}  // namespace supra
