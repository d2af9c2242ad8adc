#include "supra/tokenizers/piece_decoder.h"

#include "supra/formats/parse/utf8.h"
#include "supra/tokenizers/normalizer.h"
#include "supra/tokenizers/piece_tokenizer.h"
#include "supra/tokenizers/regex.h"
#include "supra/tokenizers/unicode.h"

namespace supra {

namespace {

using Pieces = PieceDecoder::Pieces;

void replace_all(std::string& text, std::string_view old, std::string_view now) {
  for (size_t at = 0; !old.empty() && (at = text.find(old, at)) != text.npos; at += now.size()) text.replace(at, old.size(), now);
}

void fuse(Pieces& pieces) {
  std::string all;
  for (const std::string& text : pieces.texts) all += text;
  pieces.texts = {std::move(all)};
}

// The bytes of a piece of a byte-level vocabulary; a token that was added by hand is its own text.
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

// Takes `content` away at the ends of each piece, so many times at most.
void strip(Pieces& pieces, std::string_view content, int64_t start, int64_t stop) {
  for (std::string& text : pieces.texts) {
    for (int64_t i = 0; i < start && pieces.begins && text.starts_with(content); i++) text.erase(0, content.size());
    for (int64_t i = 0; i < stop && pieces.ends && text.ends_with(content); i++) text.resize(text.size() - content.size());
  }
}

void add_steps(const Json& json, std::vector<std::function<void(Pieces&)>>& steps, bool& fused) {
  const std::string& type = json.text("type");
  const auto each = [&](auto change) {
    steps.push_back([change](Pieces& pieces) {
      for (std::string& text : pieces.texts) change(text);
    });
  };
  if (type == "ByteLevel") {
    each([](std::string& text) { text = bytes_of_piece(text); });
    steps.push_back(fuse);
    fused = true;
  } else if (type == "Fuse") {
    steps.push_back(fuse);
    fused = true;
  } else if (type == "ByteFallback") {
    // the bytes of a character are one piece
    steps.push_back([](Pieces& pieces) {
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
    });
  } else if (type == "Replace") {
    each([regex = read_pattern(json), content = json.text("content")](std::string& text) {
      std::string changed;
      regex->each_part(text, [&](std::string_view part, bool matches) { changed += matches ? std::string_view(content) : part; });
      text = std::move(changed);
    });
  } else if (type == "Metaspace") {
    const std::string space = json.text("replacement", "\u2581");
    const bool drops = json.text("prepend_scheme", json.flag("add_prefix_space", true) ? "always" : "never") != "never";
    steps.push_back([=](Pieces& pieces) {
      for (std::string& text : pieces.texts) replace_all(text, space, drops && pieces.begins && &text == pieces.texts.data() ? "" : " ");
    });
  } else if (type == "Strip") {
    // where the pieces are still apart, each is stripped
    steps.push_back([content = json.text("content"), start = json.integer("start", 0), stop = json.integer("stop", 0), fused](Pieces& pieces) {
      if (content.empty()) return;
      Pieces apart = {std::move(pieces.texts), pieces.begins || !fused, pieces.ends || !fused};
      strip(apart, content, start, stop);
      pieces.texts = std::move(apart.texts);
    });
  } else if (type == "BPEDecoder") {
    const std::string suffix = json.text("suffix", "</w>");
    steps.push_back([=](Pieces& pieces) {
      for (std::string& text : pieces.texts) replace_all(text, suffix, pieces.ends && &text == &pieces.texts.back() ? "" : " ");
    });
  } else {
    refuse_component(json, "the decoder " + type);
  }
}

}  // namespace

PieceDecoder::PieceDecoder(const Json* json) {
  bool fused = false;
  for (const Json* part : components(json, "decoders")) add_steps(*part, steps_, fused);
  if (json) return;
  steps_.push_back([](Pieces& pieces) {
    for (std::string& text : pieces.texts) {
      if (!pieces.begins || &text != pieces.texts.data()) text.insert(0, " ");
    }
  });
}

std::string PieceDecoder::text_of(Pieces pieces) const {
  const auto size = [&] {
    size_t bytes = 0;
    for (const std::string& text : pieces.texts) bytes += text.size();
    return bytes;
  };
  const size_t before = size();
  for (const auto& step : steps_) {
    step(pieces);
    check_growth(before, size());
  }
  fuse(pieces);
  return std::move(pieces.texts[0]);
}

}  // namespace supra
