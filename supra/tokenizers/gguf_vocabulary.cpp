#include "supra/tokenizers/gguf_vocabulary.h"

#include <bit>
#include <unordered_set>

#include "supra/formats/weights/gguf.h"
#include "supra/formats/parse/json.h"
#include "supra/tokenizers/bpe_tokenizer.h"
#include "supra/tokenizers/piece_tokenizer.h"
#include "supra/tokenizers/protobuf.h"
#include "supra/tokenizers/tokenizer_config.h"
#include "supra/tokenizers/tokenizer_json.h"
#include "tensor/error.h"

namespace supra {

namespace {

using Type = Piece::Type;

// An id that the file may leave out, or give as -1.
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

// The file's words as Hugging Face's files have them (tokenizer_config.h), so that these and other programs
// find the marks and the chat template.
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
  all.files.push_back({"tokenizer_config.json", config.dump(true) + "\n"});
  if (all.ends.empty()) return all;
  Json generation = Json::object(), ends = Json::array();
  if (v.marks.eos >= 0) ends.push(v.marks.eos);
  for (const int32_t id : all.ends) ends.push(id);
  generation.set("eos_token_id", std::move(ends));
  all.files.push_back({"generation_config.json", generation.dump(true) + "\n"});
  return all;
}

// SentencePiece's .model with the same pieces (fields: sentencepiece_model.cpp).
std::string model_file(const Gguf& file, const Vocabulary& v) {
  const std::vector<double> scores = file.numbers("tokenizer.ggml.scores");
  CHECK(scores.size() == v.texts.size(), "%s: tokenizer.ggml.tokens holds %zu texts, scores %zu numbers",
        file.path().c_str(), v.texts.size(), scores.size());
  ProtoWriter model;
  bool bytes = false;
  for (size_t id = 0; id < v.texts.size(); id++) {
    // what fills a vocabulary up is never chosen
    const int64_t type = is(v.types[id], Type::unused) ? static_cast<int64_t>(Type::control) : v.types[id];
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

Json pre_tokenizer(const SplitPattern& pattern) {
  Json level = Json::object(), all = Json::object(), parts = Json::array();
  level.set("type", "ByteLevel");
  level.set("add_prefix_space", false);
  level.set("trim_offsets", true);
  level.set("use_regex", !pattern.modern);
  if (!pattern.modern && !pattern.digits_first) return level;
  Json first = Json::object();
  first.set("type", pattern.modern ? "Split" : "Digits");
  if (pattern.modern) {
    Json regex = Json::object();
    regex.set("Regex", std::string(regex_of_pattern(pattern)));
    first.set("pattern", std::move(regex));
    first.set("behavior", "Isolated");
    first.set("invert", false);
  } else {
    first.set("individual_digits", true);
  }
  parts.push(std::move(first));
  parts.push(std::move(level));
  all.set("type", "Sequence");
  all.set("pretokenizers", std::move(parts));
  return all;
}

class GgufBpe : public BpeTokenizer {
 public:
  GgufBpe(std::shared_ptr<const Gguf> file, const SplitPattern& pattern, BpeVocabulary vocabulary,
          Vocabulary texts)
      : BpeTokenizer("byte-level BPE (GGUF)", std::move(vocabulary), texts.marks, {}, file->path().string()),
        file_(std::move(file)),
        pattern_(pattern),
        texts_(std::move(texts)) {
    chat_template_ = file_->text("tokenizer.chat_template", "");
  }

 private:
  std::vector<File> files() const override {
    Json added = Json::array(), merges = Json::array(), model = Json::object(), all = Json::object();
    std::vector<Json::Member> vocabulary;
    std::unordered_set<std::string_view> seen;
    for (size_t id = 0; id < texts_.texts.size(); id++) {
      const std::string text(texts_.texts[id]);
      if (seen.insert(texts_.texts[id]).second) vocabulary.push_back({text, Json(static_cast<int64_t>(id))});
      const bool special = is(texts_.types[id], Type::control) || is(texts_.types[id], Type::unknown);
      if (!special && !is(texts_.types[id], Type::user_defined)) continue;
      Json token = Json::object();
      token.set("id", static_cast<int64_t>(id));
      token.set("content", text);
      for (const char* key : {"single_word", "lstrip", "rstrip", "normalized"}) token.set(key, false);
      token.set("special", special);
      added.push(std::move(token));
    }
    for (const std::string_view merge : file_->texts("tokenizer.ggml.merges"))
      merges.push(std::string(merge));
    model.set("type", "BPE");
    model.set("ignore_merges", pattern_.most_digits == 3);
    model.set("vocab", Json::object(std::move(vocabulary)));
    model.set("merges", std::move(merges));
    Json decoder = pre_tokenizer({});
    all.set("version", "1.0");
    all.set("added_tokens", std::move(added));
    all.set("normalizer", Json());
    all.set("pre_tokenizer", pre_tokenizer(pattern_));
    all.set("post_processor", decoder);
    all.set("decoder", decoder);
    all.set("model", std::move(model));
    std::vector<File> files = config_of(*file_, texts_, "PreTrainedTokenizerFast").files;
    files.insert(files.begin(), {"tokenizer.json", all.dump()});
    return files;
  }

  const std::shared_ptr<const Gguf> file_;
  const SplitPattern pattern_;
  const Vocabulary texts_;
};

std::shared_ptr<const Tokenizer> read_byte_level(std::shared_ptr<const Gguf> file) {
  const std::string where = file->path().string(), name(file->text("tokenizer.ggml.pre", "default"));
  const SplitPattern* pattern = pattern_of_name(name);
  CHECK(pattern, "%s: the pre-tokenizer %s (tokenizer.ggml.pre) is not supported", where.c_str(),
        name.c_str());
  const bool llama3 = pattern->most_digits == 3;
  Vocabulary texts = read_vocabulary(*file, llama3);
  BpeVocabulary v;
  v.pattern = *pattern;
  v.ignore_merges = llama3;
  for (size_t id = 0; id < texts.texts.size(); id++) {
    const std::string_view text = texts.texts[id];
    const bool special = is(texts.types[id], Type::control) || is(texts.types[id], Type::unknown);
    const bool added = special || is(texts.types[id], Type::user_defined);
    v.pieces.push_back(added ? std::string(text) : bytes_of_piece(text));
    if (added && !text.empty())
      v.added.push_back({static_cast<int32_t>(id), std::string(text), special, false});
  }
  for (const std::string_view merge : file->texts("tokenizer.ggml.merges")) add_merge_line(v, merge, where);
  return std::make_shared<GgufBpe>(std::move(file), *pattern, std::move(v), std::move(texts));
}

}  // namespace

std::shared_ptr<const Tokenizer> make_gguf_tokenizer(const Path& path) {
  auto file = std::make_shared<const Gguf>(path);
  if (!file->has("tokenizer.ggml.tokens")) return nullptr;
  const std::string kind(file->text("tokenizer.ggml.model"));
  if (kind == "gpt2") return read_byte_level(std::move(file));
  CHECK(kind == "llama",
        "%s: a vocabulary of the kind %s (tokenizer.ggml.model) is not supported, llama and gpt2 are",
        path.c_str(), kind.c_str());
  const Vocabulary v = read_vocabulary(*file, true);
  return make_sentencepiece_tokenizer(model_file(*file, v), path.string(),
                                      config_of(*file, v, "LlamaTokenizer"), &v.marks);
}

}  // namespace supra
