#include "supra/tokenizers/piece_decoder.h"

#include "supra/formats/parse/utf8.h"
#include "supra/tokenizers/piece_tokenizer.h"
#include "supra/tokenizers/regex.h"
#include "supra/tokenizers/unicode.h"

namespace supra {

namespace {

void replace_all(std::string& text, std::string_view old, std::string_view now) {
  for (size_t at = 0; !old.empty() && (at = text.find(old, at)) != text.npos; at += now.size()) text.replace(at, old.size(), now);
}

void fuse(PieceTexts& pieces) {
  std::string all;
  for (const std::string& text : pieces.texts) all += text;
  pieces.texts = {std::move(all)};
}

// The bytes of a piece of a byte-level vocabulary. An added token is its own text.
std::string bytes_of_piece(std::string_view piece) {
  std::string bytes;
  for (size_t at = 0; at < piece.size();) {
    const Character c = first_character(piece.substr(at));
    const int byte = byte_of_character(c.code_point);
    if (byte < 0) return std::string(piece);
    bytes += static_cast<char>(byte);
    at += c.size;
  }
  return bytes;
}

// Removes `content` from the ends of each piece, at most `start` and `stop` times.
void strip(PieceTexts& pieces, std::string_view content, int64_t start, int64_t stop) {
  for (std::string& text : pieces.texts) {
    for (int64_t i = 0; i < start && pieces.begins && text.starts_with(content); i++) text.erase(0, content.size());
    for (int64_t i = 0; i < stop && pieces.ends && text.ends_with(content); i++) text.resize(text.size() - content.size());
  }
}

// Joins the bytes of a character into one piece.
void join_bytes(PieceTexts& pieces) {
  std::vector<std::string> all;
  bool after_byte = false;
  for (std::string& text : pieces.texts) {
    const int byte = byte_of(text);
    if (byte >= 0) text = static_cast<char>(byte);
    if (byte >= 0 && after_byte)
      all.back() += text;
    else
      all.push_back(std::move(text));
    after_byte = byte >= 0;
  }
  pieces.texts = std::move(all);
}

}  // namespace

void PieceDecoder::add_steps(const Json& json, bool& fused) {
  const std::string& type = json.text("type");
  const auto each = [&](auto change) {
    add([change](PieceTexts& pieces) {
      for (std::string& text : pieces.texts) change(text);
    });
  };
  if (type == "ByteLevel") {
    each([](std::string& text) { text = bytes_of_piece(text); });
    add(fuse);
    fused = true;
  } else if (type == "Fuse") {
    add(fuse);
    fused = true;
  } else if (type == "ByteFallback") {
    add(join_bytes);
  } else if (type == "Replace") {
    each([regex = read_pattern(json), content = json.text("content")](std::string& text) {
      std::string changed;
      regex->each_part(text, [&](std::string_view part, bool matches) { changed += matches ? std::string_view(content) : part; });
      text = std::move(changed);
    });
  } else if (type == "Metaspace") {
    const std::string space = json.text("replacement", "\u2581");
    const bool drops = json.text("prepend_scheme", json.flag("add_prefix_space", true) ? "always" : "never") != "never";
    add([=](PieceTexts& pieces) {
      for (std::string& text : pieces.texts) replace_all(text, space, drops && pieces.begins && &text == pieces.texts.data() ? "" : " ");
    });
  } else if (type == "Strip") {
    // before pieces are fused, each one is stripped
    add([content = json.text("content"), start = json.integer("start", 0), stop = json.integer("stop", 0), fused](PieceTexts& pieces) {
      if (content.empty()) return;
      PieceTexts apart = {std::move(pieces.texts), pieces.begins || !fused, pieces.ends || !fused};
      strip(apart, content, start, stop);
      pieces.texts = std::move(apart.texts);
    });
  } else if (type == "BPEDecoder") {
    const std::string suffix = json.text("suffix", "</w>");
    add([=](PieceTexts& pieces) {
      for (std::string& text : pieces.texts) replace_all(text, suffix, pieces.ends && &text == &pieces.texts.back() ? "" : " ");
    });
  } else {
    refuse_component(json, "the decoder " + type);
  }
}

PieceDecoder::PieceDecoder(const Json* json) : StepList(json) {
  bool fused = false;
  for (const Json* part : components(json, "decoders")) add_steps(*part, fused);
  if (json) return;
  add([](PieceTexts& pieces) {
    for (std::string& text : pieces.texts) {
      if (!pieces.begins || &text != pieces.texts.data()) text.insert(0, " ");
    }
  });
}

std::string PieceDecoder::text_of(PieceTexts pieces) const {
  apply(pieces);
  fuse(pieces);
  return std::move(pieces.texts[0]);
}

}  // namespace supra
