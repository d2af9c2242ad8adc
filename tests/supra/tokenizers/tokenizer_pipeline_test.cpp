#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>

#include "supra/formats/weights/gguf.h"
#include "supra/formats/parse/json.h"
#include "supra/tokenizers/gguf_words.h"
#include "supra/tokenizers/tokenizer_json.h"
#include "tensor/error.h"
#include "tests/fuzz_formats.h"
#include "tests/small_files.h"

// What tokenizer.json and GGUF vocabularies are put together from, against the libraries that they come from.

namespace supra {
namespace {

using Ids = std::vector<int32_t>;

Ids ids_in(const Json& list) {
  Ids ids;
  for (const Json& id : list.as_array()) ids.push_back(static_cast<int32_t>(id.as_integer()));
  return ids;
}

// Each line a tokenizer put together at random, with texts, ids and decoded texts of Hugging Face's tokenizers 0.23.
TEST(TokenizerPipeline, RandomConfigurationsGiveTheLibrarysIds) {
  std::ifstream lines("tests/data/tokenizers.jsonl");
  int tokenizers = 0, texts = 0;
  for (std::string line; std::getline(lines, line); tokenizers++) {
    const Json row = Json::parse(line, "tests/data/tokenizers.jsonl:" + std::to_string(tokenizers + 1));
    const auto tokenizer = make_json_tokenizer(row.at("tokenizer"), "json", {});
    for (const Json& one : row.at("cases").as_array()) {
      const std::string& text = one.text("text");
      const Ids expected = ids_in(one.at("ids"));
      EXPECT_EQ(tokenizer->encode(text, {one.flag("add_special"), one.flag("parse_special")}), expected) << one.where() << ": " << text;
      // the library makes U+FFFD of broken characters, which come out as they are here
      if (one.find("decoded")) {
        EXPECT_EQ(tokenizer->decode(expected, true), one.text("decoded")) << one.where() << ": " << text;
      }
      texts++;
    }
  }
  EXPECT_GE(tokenizers, 200);
  EXPECT_GE(texts, 1000);
}

// A text that goes on from another one gets nothing in front; pieces one by one are the text.
TEST(TokenizerPipeline, ATextThatContinuesGetsNoSpace) {
  for (const char* parts : {R"("normalizer": {"type": "Prepend", "prepend": "_"})", R"("pre_tokenizer": {"type": "Metaspace", "replacement": "_"})"}) {
    const std::string text = std::string("{") + parts +
                             R"(, "decoder": {"type": "Metaspace", "replacement": "_"}, "model": {"vocab": {"a": 0, "_": 1, "b": 2}, "merges": []}})";
    const auto t = make_json_tokenizer(Json::parse(text, "x"), "json", {});
    EXPECT_EQ(t->encode("ab"), (Ids{1, 0, 2})) << parts;
    EXPECT_EQ(t->encode("ab", {.continues = true}), (Ids{0, 2})) << parts;
    EXPECT_EQ(t->piece(1, true) + t->piece(0) + t->piece(1) + t->piece(2), "a b") << parts;
  }
}

TEST(TokenizerPipeline, DropoutIsNoted) {
  const auto t = make_json_tokenizer(Json::parse(R"({"model": {"dropout": 0.1, "vocab": {"a": 0, "b": 1, "ab": 2}, "merges": ["a b"]}})", "x"), "json", {});
  EXPECT_EQ(t->encode("ab"), Ids{2});
  ASSERT_EQ(t->notes().size(), 1u);
  EXPECT_NE(t->notes()[0].find("dropout"), std::string::npos);
}

GgufBytes vocabulary(const std::string& model, const std::string& pre, const std::string& name, const std::vector<std::string>& texts,
                     const std::vector<int>& types, const std::vector<std::string>& merges) {
  GgufBytes b = gguf_head(0, 7);
  b.key("tokenizer.ggml.model", 8, model).key("tokenizer.ggml.pre", 8, pre).key("general.name", 8, name);
  const auto list = [&](const char* key, uint32_t type, size_t count) {
    b.put(std::string("tokenizer.ggml.") + key).put<uint32_t>(9).put(type).put<uint64_t>(count);
  };
  list("tokens", 8, texts.size());
  for (const std::string& text : texts) b.put(text);
  list("token_type", 5, texts.size());
  for (const int type : types) b.put<int32_t>(type);
  list("scores", 6, texts.size());
  for (size_t i = 0; i < texts.size(); i++) b.put(-static_cast<float>(i));
  list("merges", 8, merges.size());
  for (const std::string& merge : merges) b.put(merge);
  return b;
}

std::shared_ptr<const Tokenizer> read(const TempDir& folder, const GgufBytes& bytes) {
  write_bytes(folder.path() / "v.gguf", bytes.text);
  return load_tokenizer((folder.path() / "v.gguf").string());
}

// The words are those of the models' own tokenizers; each is one piece here.
TEST(TokenizerPipeline, GgufPreTokenizersCutWords) {
  const TempDir folder;
  const std::vector<std::string> texts = {"1", "2", "12", "123", "3", "!", "\u0120", "a", "A", "aA", "!a", "\u0120!", "33"};
  const std::vector<std::string> merges = {"1 2", "12 3", "a A", "! a", "\u0120 !", "3 3"};
  const auto encode = [&](const char* pre) {
    return read(folder, vocabulary("gpt2", pre, "x", texts, std::vector<int>(texts.size(), 1), merges))->encode("12333aA!a !");
  };
  EXPECT_EQ(encode("gpt-2"), (Ids{3, 12, 9, 5, 7, 11}));
  EXPECT_EQ(encode("smollm"), (Ids{0, 1, 4, 4, 4, 9, 5, 7, 11}));
  EXPECT_EQ(encode("llama-bpe"), (Ids{3, 12, 9, 10, 11}));
  EXPECT_EQ(encode("qwen2"), (Ids{0, 1, 4, 4, 4, 9, 10, 11}));
  EXPECT_EQ(encode("gpt-4o"), (Ids{3, 12, 7, 8, 10, 11}));
  EXPECT_EQ(encode("deepseek-v3"), (Ids{3, 12, 9, 10, 11}));
  EXPECT_EQ(encode("default"), (Ids{3, 12, 9, 5, 7, 6, 5}));
  EXPECT_THROW(encode("kimi-k2"), Error);
  EXPECT_THROW(encode("no such name"), Error);
  const char* names[] = {"default", "gpt-2", "llama3", "dbrx", "qwen35", "ufakzeka", "laguna", "minicpm5", "seed-coder", "bailingmoe", "jais-2", "exaone-moe",
                         "command-r", "falcon", "deepseek-llm", "deepseek-coder", "spark2_5", "youtu", "granite-embed-multi-97m", "tiny_aya", "tekken",
                         "bloom", "viking", "chameleon", "sarvam-moe"};
  for (const char* name : names) {
    SCOPED_TRACE(name);
    const auto t = read(folder, vocabulary("gpt2", name, "x", texts, std::vector<int>(texts.size(), 1), merges));
    const TempDir copy;
    copy_tokenizer(*t, copy.path());
    for (const char* text : {"12333aA!a !", "1 2  3\n\n!a", " aA aA"}) EXPECT_EQ(find_tokenizer(copy.path())->encode(text), t->encode(text));
  }
}

// Two pieces of type unknown, and marks that take the white space behind them.
TEST(TokenizerPipeline, Phi3sVocabularyIsReadAsLlamaCppReadsIt) {
  const TempDir folder, copy;
  const std::vector<std::string> texts = {"<unk>", "<s>", "</s>", "<|end|>", "<|odd|>", "\u2581", "a", "\u2581a"};
  const std::vector<int> types = {kUnknown, kControl, kControl, kControl, kUnknown, kNormal, kNormal, kNormal};
  const auto t = read(folder, vocabulary("llama", "default", "Phi-3 mini", texts, types, {}));
  copy_tokenizer(*t, copy.path());
  for (const auto& one : {t, find_tokenizer(copy.path())}) {
    EXPECT_EQ(one->encode("a<|end|>\n  a<|odd|> ab", {.parse_special = true}), (Ids{7, 3, 7, 4, 7, 0}));
    EXPECT_EQ(one->encode("<s> a", {.parse_special = true}), (Ids{1, 5, 7}));
  }
}

}  // namespace
}  // namespace supra
