#include "supra/tokenizers/tokenizer_json.h"

#include <algorithm>
#include <array>

#include "supra/formats/parse/json.h"
#include "supra/tokenizers/tokenizer_config.h"
#include "supra/tokenizers/unicode.h"
#include "tensor/error.h"

namespace supra {

std::string bytes_of_piece(std::string_view piece) {
  // by code point; -1 where it stands for none
  static const std::array<int, 256 + 68> byte_of_character = [] {
    std::array<int, 256 + 68> bytes;
    bytes.fill(-1);
    size_t next = 256;
    for (int byte = 0; byte < 256; byte++) {
      const bool printable = (byte >= '!' && byte <= '~') || (byte >= 0xa1 && byte != 0xad);
      bytes[printable ? static_cast<size_t>(byte) : next++] = byte;
    }
    return bytes;
  }();
  std::string bytes;
  for (size_t at = 0; at < piece.size();) {
    const Character c = first_character(piece.substr(at));
    const int byte = c.code_point < byte_of_character.size() ? byte_of_character[c.code_point] : -1;
    // a token that was added by hand
    if (byte < 0) return std::string(piece);
    bytes += static_cast<char>(byte);
    at += c.size;
  }
  return bytes;
}

static void add_merge(BpeVocabulary& v, std::string_view left, std::string_view right) {
  if (v.bytes)
    v.merges.emplace_back(bytes_of_piece(left), bytes_of_piece(right));
  else
    v.merges.emplace_back(left, right);
}

void add_merge_line(BpeVocabulary& v, std::string_view merge, const std::string& where) {
  const size_t space = merge.find(' ');
  CHECK(space != merge.npos && space > 0 && merge.find(' ', space + 1) == merge.npos &&
            space + 1 < merge.size(),
        "%s: merge \"%s\" is not two pieces with a space between", where.c_str(), std::string(merge).c_str());
  add_merge(v, merge.substr(0, space), merge.substr(space + 1));
}

namespace {

[[noreturn]] void refuse(const Json& json, const std::string& what) {
  fail("%s: %s is not supported, and ignoring it would give wrong ids", json.where().c_str(), what.c_str());
}

// The components of a normalizer, pre-tokenizer or post-processor: its own list, or itself.
std::vector<const Json*> components(const Json& tokenizer, const char* key, const char* list) {
  const Json* component = tokenizer.find(key);
  if (!component) return {};
  if (component->text("type") != "Sequence") return {component};
  std::vector<const Json*> all;
  for (const Json& part : component->at(list).as_array(list)) all.push_back(&part);
  return all;
}

void read_normalizers(const Json& json, BpeVocabulary& v) {
  for (const Json* part : components(json, "normalizer", "normalizers")) {
    const std::string& type = part->text("type");
    if (type == "NFC") {
      v.nfc = true;
    } else if (type == "Prepend" && part->text("prepend") == "\u2581") {
      v.space = BpeVocabulary::Space::always;
    } else if (type == "Replace" && part->at("pattern").text("String", "") == " " &&
               part->text("content") == "\u2581") {
      v.bytes = false;
    } else {
      refuse(*part, "normalizer " + type);
    }
  }
}

void read_metaspace(const Json& part, BpeVocabulary& v) {
  if (part.text("replacement", "\u2581") != "\u2581") refuse(part, "another replacement than U+2581");
  if (part.flag("split", true)) refuse(part, "Metaspace that splits");
  const std::string scheme =
      part.text("prepend_scheme", part.flag("add_prefix_space", true) ? "always" : "never");
  using Space = BpeVocabulary::Space;
  v.bytes = false;
  v.space = scheme == "first" ? Space::beginning : scheme == "always" ? Space::missing : Space::none;
}

// What our one pass over a text does not do is refused: ByteLevel that cuts the pieces of a Split again, or
// gives each piece a space in front, and anything in front of Metaspace.
void read_pre_tokenizers(const Json& json, BpeVocabulary& v) {
  std::string before;
  for (const Json* part : components(json, "pre_tokenizer", "pretokenizers")) {
    const std::string& type = part->text("type");
    const bool regex = part->flag("use_regex", true), space = part->flag("add_prefix_space", true);
    if (type == "ByteLevel" && (before.empty() || (before == (regex ? "Digits" : "Split") && !space))) {
      v.prefix_space = space;
      if (regex) v.pattern = SplitPattern{.digits_first = before == "Digits"};
    } else if (type == "Split" && before.empty()) {
      const Json& given = part->at("pattern");
      const std::string& expression = given.text("Regex", given.text("String", ""));
      const SplitPattern* pattern = pattern_of_regex(expression);
      const bool usual = part->text("behavior") == "Isolated" && !part->flag("invert", false);
      if (!pattern || !usual) refuse(*part, "the pre-tokenizer Split with " + expression);
      v.pattern = *pattern;
    } else if (type == "Metaspace" && before.empty()) {
      read_metaspace(*part, v);
    } else if (type != "Digits" || !before.empty() || !part->flag("individual_digits", false)) {
      const std::string how = type != "ByteLevel"
                                  ? ""
                                  : format(" (use_regex %s, add_prefix_space %s)", regex ? "true" : "false",
                                           space ? "true" : "false");
      refuse(*part, "pre-tokenizer " + type + how + (before.empty() ? "" : " behind " + before));
    }
    before = type;
  }
  const bool ends = before.empty() || before == "Metaspace" || before == "ByteLevel";
  CHECK(
      ends && v.bytes == (before == "ByteLevel"),
      "%s: the pre-tokenizers end in \"%s\"; what is supported ends in ByteLevel, or writes spaces as U+2581 "
      "(Metaspace or a normalizer)",
      json.where().c_str(), before.c_str());
}

void read_added_tokens(const Json& json, BpeVocabulary& v) {
  const Json* tokens = json.find("added_tokens");
  if (!tokens) return;
  for (const Json& token : tokens->as_array("added_tokens")) {
    for (const char* key : {"single_word", "lstrip", "rstrip"}) {
      if (token.flag(key, false)) refuse(token, "added token " + token.text("content") + " with " + key);
    }
    const bool normalized = token.flag("normalized", false);
    if (normalized && !v.bytes) refuse(token, "added token " + token.text("content") + " in normalized text");
    const std::string& text = token.text("content");
    v.added.push_back({static_cast<int32_t>(std::clamp<int64_t>(token.integer("id"), -1, INT32_MAX)),
                       normalized && v.nfc ? nfc(text) : text, token.flag("special", false), normalized});
  }
}

// Gives an id its piece. No file says so much about an id in fewer than 8 bytes: a larger one would cost
// memory that the file does not account for.
void place(BpeVocabulary& v, int64_t id, std::string piece, size_t file_size, const std::string& where) {
  const size_t most = file_size / 8 + 1024;
  CHECK(id >= 0 && static_cast<size_t>(id) < most && id < INT32_MAX,
        "%s: piece \"%s\" has the id %ld, a file of this size has ids below %zu", where.c_str(),
        piece.c_str(), static_cast<long>(id), most);
  if (static_cast<size_t>(id) >= v.pieces.size()) v.pieces.resize(static_cast<size_t>(id) + 1);
  v.pieces[static_cast<size_t>(id)] = std::move(piece);
}

void read_vocabulary(const Json& vocabulary, BpeVocabulary& v, size_t file_size) {
  const std::string where = vocabulary.where();
  for (const auto& [piece, id] : vocabulary.as_object("vocab")) {
    place(v, id.as_integer(piece), v.bytes ? bytes_of_piece(piece) : piece, file_size, where);
  }
}

void read_model(const Json& model, BpeVocabulary& v, size_t file_size) {
  const std::string type = model.text("type", "BPE");
  if (type != "BPE") refuse(model, "the model " + type);
  for (const char* key : {"dropout", "continuing_subword_prefix", "end_of_word_suffix"}) {
    const Json* value = model.find(key);
    if (value && !(value->is_string() && value->as_string().empty())) refuse(*value, key);
  }
  read_vocabulary(model.at("vocab"), v, file_size);
  const std::string where = model.at("merges").where();
  for (const Json& merge : model.at("merges").as_array("merges")) {
    if (merge.is_string()) {
      add_merge_line(v, merge.as_string(), where);
    } else {
      const Json::Array& pair = merge.as_array("merge");
      CHECK(pair.size() == 2, "%s: a merge of %zu pieces", merge.where().c_str(), pair.size());
      add_merge(v, pair[0].as_string("merge"), pair[1].as_string("merge"));
    }
  }
  v.ignore_merges = model.flag("ignore_merges", false);
  v.byte_fallback = !v.bytes && model.flag("byte_fallback", false);
  v.fuse_unknown = model.flag("fuse_unk", false);
  if (model.find("unk_token")) {
    const auto found = std::find(v.pieces.begin(), v.pieces.end(), model.text("unk_token"));
    if (found != v.pieces.end()) v.unknown = static_cast<int32_t>(found - v.pieces.begin());
  }
}

int32_t id_of(const BpeVocabulary& v, std::string_view text) {
  for (const AddedToken& token : v.added) {
    if (token.text == text) return token.id;
  }
  return -1;
}

// What stands before and after the text with add_special: [BOS, text, EOS] at most.
Tokenizer::Marks read_template(const Json& json, const BpeVocabulary& v) {
  Tokenizer::Marks marks;
  for (const Json* part : components(json, "post_processor", "processors")) {
    const std::string& type = part->text("type");
    if (type == "ByteLevel") continue;
    if (type != "TemplateProcessing") refuse(*part, "post-processor " + type);
    bool behind = false;
    for (const Json& item : part->at("single").as_array("single")) {
      if (item.find("Sequence")) {
        behind = true;
        continue;
      }
      const int32_t id = id_of(v, item.at("SpecialToken").text("id"));
      bool& is_set = behind ? marks.eos_behind : marks.bos_in_front;
      if (id < 0 || is_set) refuse(item, "a template of several or unknown special tokens");
      is_set = true;
      (behind ? marks.eos : marks.bos) = id;
    }
  }
  return marks;
}

// tokenizer_config.json names BOS and EOS; without it their usual names are tried.
void read_marks(const std::string& text, const Path& path, const BpeVocabulary& v, Tokenizer::Marks& marks) {
  const auto find_first = [&](std::initializer_list<const char*> names) {
    for (const char* name : names) {
      if (id_of(v, name) >= 0) return id_of(v, name);
    }
    return -1;
  };
  if (!text.empty()) {
    const Json json = Json::parse(text, path.string());
    const auto named = [&](const char* key, int32_t& id) {
      const Json* token = json.find(key);
      if (token) id = id_of(v, token->is_object() ? token->text("content") : token->as_string(key));
    };
    named("bos_token", marks.bos);
    named("eos_token", marks.eos);
    marks.bos_in_front = marks.bos >= 0 && json.flag("add_bos_token", marks.bos_in_front);
    marks.eos_behind = marks.eos >= 0 && json.flag("add_eos_token", marks.eos_behind);
  }
  if (marks.bos < 0) marks.bos = find_first({"<|begin_of_text|>", "<s>", "<bos>", "<|startoftext|>"});
  if (marks.eos < 0)
    marks.eos = find_first({"<|end_of_text|>", "</s>", "<|endoftext|>", "<eos>", "<|im_end|>"});
}

}  // namespace

std::shared_ptr<const Tokenizer> make_json_tokenizer(const MappedFile& file, const ModelFiles& beside) {
  const std::string_view bytes = file.text();
  const Path& path = file.path();
  const Json json = Json::parse(bytes, path.string());
  BpeVocabulary v;
  read_normalizers(json, v);
  read_pre_tokenizers(json, v);
  read_added_tokens(json, v);
  read_model(json.at("model"), v, bytes.size());
  for (const AddedToken& token : v.added) place(v, token.id, token.text, bytes.size(), path.string());

  TokenizerConfig config = read_tokenizer_config(beside);
  config.files.insert(config.files.begin(), {"tokenizer.json", std::string(bytes)});
  Tokenizer::Marks marks = read_template(json, v);
  read_marks(config.text, beside.path() / "tokenizer_config.json", v, marks);
  marks.ends = std::move(config.ends);
  const char* kind = v.bytes ? "byte-level BPE (tokenizer.json)" : "BPE (tokenizer.json)";
  return std::make_shared<BpeTokenizer>(kind, std::move(v), std::move(marks), std::move(config.files),
                                        path.string(), std::move(config.chat_template));
}

std::shared_ptr<const Tokenizer> make_gpt2_tokenizer(const MappedFile& vocabulary, const MappedFile& merges) {
  const std::string json(vocabulary.text()), lines(merges.text());
  BpeVocabulary v;
  v.pattern = SplitPattern();
  read_vocabulary(Json::parse(json, vocabulary.path().string()), v, json.size());
  for (size_t at = 0; at < lines.size();) {
    const size_t end = std::min(lines.find('\n', at), lines.size());
    std::string_view line = std::string_view(lines).substr(at, end - at);
    if (line.ends_with('\r')) line.remove_suffix(1);
    if (!line.empty() && !(at == 0 && line.starts_with("#version"))) add_merge_line(v, line, merges.path().string());
    at = end + 1;
  }
  Tokenizer::Marks marks;
  const auto end_of_text = std::find(v.pieces.begin(), v.pieces.end(), "<|endoftext|>");
  if (end_of_text != v.pieces.end()) {
    marks.bos = marks.eos = static_cast<int32_t>(end_of_text - v.pieces.begin());
    v.added.push_back({marks.eos, *end_of_text, true, false});
  }
  return std::make_shared<BpeTokenizer>(
      "byte-level BPE (vocab.json and merges.txt)", std::move(v), marks,
      std::vector<Tokenizer::File>{{"vocab.json", json}, {"merges.txt", lines}}, vocabulary.path().string());
}

}  // namespace supra
