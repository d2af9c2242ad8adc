#include "supra/tokenizers/gguf_vocabulary.h"

#include <algorithm>
#include <unordered_set>

#include "supra/formats/parse/json.h"
#include "supra/formats/weights/gguf.h"
#include "supra/tokenizers/gguf_words.h"
#include "supra/tokenizers/piece_tokenizer.h"
#include "supra/tokenizers/protobuf.h"
#include "supra/tokenizers/tokenizer_config.h"
#include "supra/tokenizers/tokenizer_json.h"
#include "tensor/error.h"

namespace supra {

namespace {

using Type = Piece::Type;

// An id; -1 if the file has none, or one outside the vocabulary.
int32_t id_at(const Gguf& file, const char* key, size_t size) {
  const int64_t id = file.integer(key, -1);
  return id >= 0 && static_cast<size_t>(id) < size ? static_cast<int32_t>(id) : -1;
}

struct Vocabulary {
  std::vector<std::string_view> texts;
  std::vector<int64_t> types;  // Piece::Type, one for each text
  Tokenizer::Marks marks;
};

Vocabulary read_vocabulary(const Gguf& file, bool adds_bos) {
  Vocabulary v;
  v.texts = file.texts("tokenizer.ggml.tokens");
  if (file.has("tokenizer.ggml.token_type"))
    v.types = file.integers("tokenizer.ggml.token_type");
  else
    v.types.assign(v.texts.size(), static_cast<int64_t>(Type::normal));
  CHECK(v.types.size() == v.texts.size(), "%s: tokenizer.ggml.tokens holds %zu texts, token_type %zu types",
        file.path().c_str(), v.texts.size(), v.types.size());
  v.marks.bos = id_at(file, "tokenizer.ggml.bos_token_id", v.texts.size());
  v.marks.eos = id_at(file, "tokenizer.ggml.eos_token_id", v.texts.size());
  for (const char* key : {"tokenizer.ggml.eot_token_id", "tokenizer.ggml.eom_token_id"}) {
    if (const int32_t id = id_at(file, key, v.texts.size()); id >= 0) v.marks.ends.push_back(id);
  }
  v.marks.bos_in_front = v.marks.bos >= 0 && file.flag("tokenizer.ggml.add_bos_token", adds_bos);
  v.marks.eos_behind = v.marks.eos >= 0 && file.flag("tokenizer.ggml.add_eos_token", false);
  return v;
}

bool is(int64_t type, Type wanted) { return type == static_cast<int64_t>(wanted); }

// Phi-3's marks include the white space after them. Like llama.cpp, this recognises Phi-3 by the model's name.
void add_stripping(const Gguf& file, const Vocabulary& v, TokenizerConfig& all, Json& config) {
  std::string name(file.text("general.name", ""));
  std::transform(name.begin(), name.end(), name.begin(), [](char c) { return static_cast<char>(std::tolower(static_cast<uint8_t>(c))); });
  if (name.find("phi-3") == name.npos && name.find("phi3") == name.npos) return;
  std::vector<Json::Member> tokens;
  for (size_t id = 0; id < v.texts.size(); id++) {
    const std::string text(v.texts[id]);
    const bool mark = is(v.types[id], Type::control) || is(v.types[id], Type::unknown);
    if (!mark || text == "<unk>" || text == "<s>" || text == "<|endoftext|>") continue;
    all.strips_right.push_back(text);
    tokens.push_back({std::to_string(id), Json::object({{"content", Json(text)}, {"rstrip", Json(true)}, {"special", Json(true)}})});
  }
  config.set("added_tokens_decoder", Json::object(std::move(tokens)));
}

// The file's marks and chat template as Hugging Face's files (tokenizer_config.h), for this and other programs.
TokenizerConfig config_of(const Gguf& file, const Vocabulary& v, const char* tokenizer_class) {
  TokenizerConfig all;
  all.chat_template = file.text("tokenizer.chat_template", "");
  all.ends = v.marks.ends;
  Json config = Json::object();
  config.set("tokenizer_class", tokenizer_class);
  config.set("add_bos_token", v.marks.bos_in_front);
  config.set("add_eos_token", v.marks.eos_behind);
  if (v.marks.bos >= 0) config.set("bos_token", std::string(v.texts[v.marks.bos]));
  if (v.marks.eos >= 0) config.set("eos_token", std::string(v.texts[v.marks.eos]));
  if (file.has("tokenizer.chat_template")) config.set("chat_template", all.chat_template);
  add_stripping(file, v, all, config);
  all.files.push_back({"tokenizer_config.json", config.dump(true) + "\n"});
  if (all.ends.empty()) return all;
  Json ends = Json::array();
  if (v.marks.eos >= 0) ends.push(v.marks.eos);
  for (const int32_t id : all.ends) ends.push(id);
  all.files.push_back({"generation_config.json", Json::object({{"eos_token_id", std::move(ends)}}).dump(true) + "\n"});
  return all;
}

// SentencePiece's .model with the same pieces (fields: sentencepiece_model.cpp).
std::string model_file(const Gguf& file, const Vocabulary& v) {
  const std::vector<double> scores = file.numbers("tokenizer.ggml.scores");
  CHECK(scores.size() == v.texts.size(), "%s: tokenizer.ggml.tokens holds %zu texts, scores %zu numbers",
        file.path().c_str(), v.texts.size(), scores.size());
  ProtoWriter model;
  bool bytes = false;
  // one piece stands for unknown characters; llama.cpp treats others of that type, as in Phi-3, as marks
  const auto first = std::find(v.types.begin(), v.types.end(), static_cast<int64_t>(Type::unknown)) - v.types.begin();
  const int64_t given = file.integer("tokenizer.ggml.unknown_token_id", -1);
  const bool names_one = given >= 0 && given < static_cast<int64_t>(v.types.size()) && is(v.types[static_cast<size_t>(given)], Type::unknown);
  const auto unknown = static_cast<size_t>(names_one ? given : first);
  for (size_t id = 0; id < v.texts.size(); id++) {
    // unused pieces become control pieces, which no text becomes
    const bool mark = is(v.types[id], Type::unused) || (is(v.types[id], Type::unknown) && id != unknown);
    const int64_t type = mark ? static_cast<int64_t>(Type::control) : v.types[id];
    bytes = bytes || is(type, Type::byte);
    ProtoWriter piece;
    piece.bytes(1, v.texts[id]).real(2, static_cast<float>(scores[id])).integer(3, type);
    model.bytes(1, piece.text());
  }
  ProtoWriter trainer, normalizer;
  trainer.integer(3, 2).integer(35, bytes);
  if (v.marks.bos >= 0) trainer.bytes(46, v.texts[v.marks.bos]);
  if (v.marks.eos >= 0) trainer.bytes(47, v.texts[v.marks.eos]);
  normalizer.bytes(1, "identity")
      .integer(3, file.flag("tokenizer.ggml.add_space_prefix", true))
      .integer(4, 0);
  return model.bytes(2, trainer.text()).bytes(3, normalizer.text()).text();
}

// The parts of a tokenizer.json other than the vocabulary, for pieces of bytes and of characters.
constexpr char kLevel[] = R"({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false})";
constexpr char kCharacters[] = R"({"version": "1.0", "normalizer": {"type": "Replace", "pattern": {"String": " "}, "content": "\u2581"},
  "decoder": {"type": "Sequence", "decoders": [{"type": "Replace", "pattern": {"String": "\u2581"}, "content": " "},
    {"type": "ByteFallback"}, {"type": "Fuse"}]}, "pre_tokenizer": {"type": "Sequence"}, "model": {"type": "BPE", "byte_fallback": true}})";
constexpr char kBytes[] = R"({"version": "1.0", "pre_tokenizer": {"type": "Sequence"}, "model": {"type": "BPE"}})";

// A vocabulary of the kind gpt2 as a tokenizer.json.
Json tokenizer_json(const Gguf& file, const Vocabulary& v, const GgufWords& words) {
  std::vector<Json> added, merges, cuts;
  std::vector<Json::Member> vocabulary;
  std::unordered_set<std::string_view> seen;
  for (size_t id = 0; id < v.texts.size(); id++) {
    const std::string text(v.texts[id]);
    if (seen.insert(v.texts[id]).second) vocabulary.push_back({text, Json(static_cast<int64_t>(id))});
    const bool special = is(v.types[id], Type::control) || is(v.types[id], Type::unknown);
    if ((!special && !is(v.types[id], Type::user_defined)) || text.empty()) continue;
    added.push_back(Json::object({{"id", static_cast<int64_t>(id)}, {"content", text}, {"single_word", false}, {"lstrip", false},
                                  {"rstrip", false}, {"normalized", false}, {"special", special}}));
  }
  for (const std::string_view merge : file.texts("tokenizer.ggml.merges")) merges.push_back(Json(std::string(merge)));
  for (const char* expression : words.expressions) {
    cuts.push_back(Json::object({{"type", "Split"}, {"behavior", "Isolated"}, {"invert", false},
                                 {"pattern", Json::object({{"Regex", expression}})}}));
  }
  const Json level = Json::parse(kLevel, "level");
  if (!words.characters) cuts.push_back(level);
  Json all = Json::parse(words.characters ? kCharacters : kBytes, "frame"), model = all.at("model"), cutting = all.at("pre_tokenizer");
  model.set("ignore_merges", words.ignores_merges);
  model.set("vocab", Json::object(std::move(vocabulary)));
  model.set("merges", Json::array(std::move(merges)));
  cutting.set("pretokenizers", Json::array(std::move(cuts)));
  all.set("added_tokens", Json::array(std::move(added)));
  all.set("pre_tokenizer", std::move(cutting));
  all.set("model", std::move(model));
  if (words.characters) return all;
  all.set("post_processor", level);
  all.set("decoder", level);
  return all;
}

std::shared_ptr<const Tokenizer> read_merges(std::shared_ptr<const Gguf> file, const std::string& name) {
  const GgufWords* words = gguf_words(name);
  CHECK(words, "%s: the pre-tokenizer %s (tokenizer.ggml.pre) is not supported (%s)", file->path().c_str(), name.c_str(), kNameTokenizer);
  const Vocabulary v = read_vocabulary(*file, words->adds_bos);
  TokenizerConfig config = config_of(*file, v, "PreTrainedTokenizerFast");
  const auto files = [file, v, words] {
    std::vector<Tokenizer::File> all = config_of(*file, v, "PreTrainedTokenizerFast").files;
    all.insert(all.begin(), {"tokenizer.json", tokenizer_json(*file, v, *words).dump()});
    return all;
  };
  const char* kind = words->characters ? "BPE (GGUF)" : "byte-level BPE (GGUF)";
  try {
    return make_json_tokenizer(tokenizer_json(*file, v, *words), kind, std::move(config), &v.marks, files);
  } catch (const Error& error) {
    fail("%s: %s", file->path().c_str(), error.what());
  }
}

}  // namespace

std::shared_ptr<const Tokenizer> make_gguf_tokenizer(const Path& path) {
  auto file = std::make_shared<const Gguf>(path);
  if (!file->has("tokenizer.ggml.tokens")) return nullptr;
  const std::string kind(file->text("tokenizer.ggml.model"));
  if (kind == "gpt2" || kind == "gemma4")
    return read_merges(file, kind == "gemma4" ? kind : std::string(file->text("tokenizer.ggml.pre", "default")));
  CHECK(kind == "llama", "%s: a vocabulary of the kind %s (tokenizer.ggml.model) is not supported, llama, gpt2 and gemma4 are (%s)",
        path.c_str(), kind.c_str(), kNameTokenizer);
  const Vocabulary v = read_vocabulary(*file, true);
  return make_sentencepiece_tokenizer(model_file(*file, v), path.string(), config_of(*file, v, "LlamaTokenizer"), &v.marks);
}

}  // namespace supra
