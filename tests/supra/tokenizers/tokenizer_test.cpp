#include "supra/tokenizers/tokenizer.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <fstream>
#include <functional>
#include <iterator>
#include <limits>
#include <sstream>

#include "supra/formats/parse/json.h"
#include "supra/tokenizers/chat_template.h"
#include "supra/tokenizers/text_stream.h"
#include "tensor/error.h"
#include "tensor/random.h"
#include "tests/small_files.h"
#include "tests/support.h"

namespace supra {
namespace {

using Ids = std::vector<int32_t>;
using Loaded = std::shared_ptr<const Tokenizer>;

Loaded make_bin(std::vector<TestPiece> pieces) {
  return make_llama2c_tokenizer(bin_file(pieces), "test.bin");
}

Loaded make_model(std::vector<TestPiece> pieces, const ModelOptions& options = {}) {
  return make_sentencepiece_tokenizer(model_file(pieces, options), "test.model");
}

std::string message_of(const std::function<void()>& f) {
  try {
    f();
  } catch (const Error& error) {
    return error.what();
  }
  return "no error";
}

TEST(Tokenizer, RawBytes) {
  const Loaded bytes = load_tokenizer("bytes");
  std::string all;
  for (int byte = 0; byte < 256; byte++) all += static_cast<char>(byte);
  EXPECT_EQ(bytes->encode("abc"), (Ids{97, 98, 99}));
  EXPECT_EQ(bytes->encode("abc", {.add_special = true}), (Ids{0, 97, 98, 99}));
  EXPECT_EQ(bytes->encode(""), Ids{});
  EXPECT_EQ(bytes->decode(bytes->encode(all)), all);
  EXPECT_EQ(bytes->size(), 256);
  EXPECT_EQ(bytes->bos(), 0);
  EXPECT_EQ(bytes->eos(), 0);
  EXPECT_TRUE(bytes->adds_bos());
  EXPECT_THROW(bytes->piece(256), Error);
  EXPECT_THROW(bytes->decode(Ids{-1}), Error);
}

TEST(Tokenizer, MergesTheBestPairLeftmostFirst) {
  for (const bool bin : {true, false}) {
    const Loaded t =
        bin ? make_bin(small_vocabulary(true)) : make_model(small_vocabulary(false), {.byte_fallback = true});
    EXPECT_EQ(t->encode("ab"), (Ids{259, 262}));
    EXPECT_EQ(t->encode("aab"), (Ids{263, 262}));
    EXPECT_EQ(t->encode("aaa"), (Ids{263, 264}));
    EXPECT_EQ(t->encode("baaa"), (Ids{259, 261, 264, 260}));
    EXPECT_EQ(t->encode(""), Ids{});
    EXPECT_EQ(t->encode("", {.add_special = true}), (Ids{1, 2}));
    EXPECT_EQ(t->encode("b", {.add_special = true}), (Ids{1, 259, 261, 2}));
    EXPECT_EQ(t->bos(), 1);
    EXPECT_EQ(t->eos(), 2);
    EXPECT_TRUE(t->adds_bos());
  }
}

TEST(Tokenizer, UnknownCharactersAreBytesOrOneUnknown) {
  const Ids euro = {259, 0xe2 + 3, 0x82 + 3, 0xac + 3};
  EXPECT_EQ(make_bin(small_vocabulary(true))->encode("€"), euro);
  EXPECT_EQ(make_model(small_vocabulary(false), {.byte_fallback = true})->encode("€"), euro);
  for (const bool bin : {true, false}) {
    std::vector<TestPiece> pieces = three_marks(bin);
    append(pieces, {{bin ? " " : "\u2581"}, {"a"}});
    const Loaded t = bin ? make_bin(pieces) : make_model(pieces);
    EXPECT_EQ(t->encode("a€\n€a\nb"), (Ids{3, 4, 0, 4, 0}));
    EXPECT_EQ(t->decode(Ids{3, 4, 0, 4}), "a \u2047 a");
  }
}

TEST(Tokenizer, DecodingDropsTheSpaceInFront) {
  for (const bool bin : {true, false}) {
    const Loaded t =
        bin ? make_bin(small_vocabulary(true)) : make_model(small_vocabulary(false), {.byte_fallback = true});
    for (const char* text : {"", "a", " a", "  a b ", "\n", " ", "€ab", "<0x41>"}) {
      EXPECT_EQ(t->decode(t->encode(text)), text);
      EXPECT_EQ(t->decode(t->encode(text, {.add_special = true})), text);
    }
    EXPECT_EQ(t->piece(263), " a");
    EXPECT_EQ(t->piece(263, true), "a");
    EXPECT_EQ(t->piece(3 + 0x0a), "\n");
    // a space as a byte was no dummy
    EXPECT_EQ(t->piece(3 + 0x20, true), " ");
    EXPECT_EQ(t->piece(1), "");
    EXPECT_TRUE(t->is_special(2));
    EXPECT_FALSE(t->is_special(0));
  }
}

// llama2.c looks up the text of a byte's piece as any other.
TEST(Tokenizer, Llama2cMergesTheTextOfAByte) {
  std::vector<TestPiece> pieces = with_bytes(true);
  append(pieces, {{" "}, {"<"}, {"0"}, {"x"}, {"A"}, {">"}, {"<0"}, {"<0x"}, {"<0x0"}, {"<0x0A"}});
  EXPECT_EQ(make_bin(pieces)->encode("<0x0A>"), (Ids{259, 3 + 10}));
  // a letter that a stray continuation follows is one character there, and unknown
  EXPECT_EQ(make_bin(pieces)->encode("x\x80"), (Ids{259, 3 + 'x', 3 + 0x80}));
}

TEST(Tokenizer, SentencePieceReplacesWhatIsNoUtf8) {
  const Loaded t = make_model(small_vocabulary(false), {.byte_fallback = true});
  EXPECT_EQ(t->encode("a\xff\xe2\x82"), t->encode("a\ufffd\ufffd\ufffd"));
  EXPECT_EQ(t->encode(std::string("a\0b", 3)), (Ids{263, 3, 261}));
}

TEST(Tokenizer, SentencePieceSwitches) {
  const std::vector<TestPiece> pieces = small_vocabulary(false);
  const Loaded plain = make_model(pieces, {.byte_fallback = true, .add_dummy_prefix = false});
  EXPECT_EQ(plain->encode("ab a"), (Ids{262, 263}));
  EXPECT_EQ(plain->decode(Ids{263}), " a");
  const Loaded strip = make_model(pieces, {.byte_fallback = true, .remove_extra_whitespaces = true});
  EXPECT_EQ(strip->encode("  b   b  "), strip->encode("b b"));
  EXPECT_EQ(strip->encode("   "), Ids{});
}

TEST(Tokenizer, UserDefinedPiecesComeFirst) {
  std::vector<TestPiece> pieces = small_vocabulary(false);
  append(pieces, {{"ba", 0, kUserDefined}, {"bab", 0, kUserDefined}});
  const Loaded t = make_model(pieces, {.byte_fallback = true});
  EXPECT_EQ(t->encode("abab"), (Ids{263, 266}));
  EXPECT_EQ(t->encode("baab"), (Ids{259, 265, 262}));
}

// The pieces of a text by the definition: the best pair again and again.
Ids merge_slowly(const std::string& text, const std::vector<TestPiece>& pieces) {
  std::vector<std::string> symbols;
  for (const char c : text) symbols.push_back({c});
  auto id_of = [&](const std::string& symbol) {
    for (size_t id = 0; id < pieces.size(); id++) {
      if (pieces[id].text == symbol) return static_cast<int32_t>(id);
    }
    return -1;
  };
  while (true) {
    size_t best = symbols.size();
    float best_score = -std::numeric_limits<float>::infinity();
    for (size_t i = 0; i + 1 < symbols.size(); i++) {
      const int32_t id = id_of(symbols[i] + symbols[i + 1]);
      if (id < 0 || pieces[id].score <= best_score) continue;
      best_score = pieces[id].score;
      best = i;
    }
    if (best == symbols.size()) break;
    symbols[best] += symbols[best + 1];
    symbols.erase(symbols.begin() + static_cast<int64_t>(best) + 1);
  }
  Ids ids;
  for (const std::string& symbol : symbols) ids.push_back(id_of(symbol));
  return ids;
}

TEST(Tokenizer, MergingAgreesWithItsDefinition) {
  Philox random(1);
  for (int round = 0; round < 60; round++) {
    std::vector<TestPiece> pieces = three_marks(true);
    append(pieces, {{" "}, {"a"}, {"b"}, {"c"}});
    for (int i = 0; i < 25; i++) {
      std::string text;
      const uint64_t size = 2 + random.below(4);
      while (text.size() < size) text += " abc"[random.below(4)];
      // few scores, so that many are equal
      TestPiece piece{text, -static_cast<float>(random.below(4))};
      const bool known = std::any_of(pieces.begin(), pieces.end(), [&](auto& p) { return p.text == text; });
      if (!known) pieces.push_back(piece);
    }
    const Loaded t = make_bin(pieces);
    for (int i = 0; i < 20; i++) {
      std::string text = "a";
      const uint64_t size = 1 + random.below(60);
      while (text.size() < size) text += " abc"[random.below(4)];
      ASSERT_EQ(t->encode(text), merge_slowly(" " + text, pieces)) << text;
    }
  }
}

TEST(Tokenizer, TextStreamNeverSplitsACharacter) {
  const std::string text = "a\u00e9\u20ac\U0001f600 b";
  TextStream stream;
  std::string out;
  for (const char c : text) {
    const std::string piece = stream.push({&c, 1});
    EXPECT_EQ(Json::parse(Json(piece).dump(), "test").as_string(), piece);
    out += piece;
  }
  EXPECT_EQ(out + stream.flush(), text);
  EXPECT_EQ(stream.push("\xf0\x9f\x98"), "");
  EXPECT_EQ(stream.flush(), "\ufffd");
  EXPECT_EQ(stream.flush(), "");
  // one sign for each beginning of a character, one for each other byte
  EXPECT_EQ(stream.push("\xf0\x9f\x98x\xe2\x82\xe2\x82\xac\x80\xff\xc0\xaf\xed\xa0\x80."),
            "\ufffdx\ufffd\u20ac\ufffd\ufffd\ufffd\ufffd\ufffd\ufffd\ufffd.");
}

TEST(Tokenizer, RefusalsNameTheFeature) {
  std::vector<TestPiece> pieces = three_marks(false);
  pieces.push_back({"a"});
  auto refusal = [&](const ModelOptions& options) {
    return message_of([&] { make_model(pieces, options); });
  };
  EXPECT_NE(refusal({.type = 4}).find("test.model: SentencePiece char is not read"), std::string::npos);
  EXPECT_NE(refusal({.charsmap = "x"}).find("charsmap"), std::string::npos);
  EXPECT_NE(refusal({.byte_fallback = true}).find("<0x00> is missing"), std::string::npos);
  auto with = [&](const TestPiece& piece) {
    std::vector<TestPiece> more = pieces;
    more.push_back(piece);
    return message_of([&] { make_model(more); });
  };
  EXPECT_NE(with({"b", 0, kUnused}).find("unused"), std::string::npos);
  EXPECT_NE(with({"a"}).find("repeats"), std::string::npos);
  EXPECT_NE(with({""}).find("empty"), std::string::npos);
  EXPECT_NE(with({"b", NAN}).find("score"), std::string::npos);
  EXPECT_NE(with({"b", 0, 7}).find("type 7"), std::string::npos);
  EXPECT_NE(with({"<0x41>", 0, kByte}).find("byte_fallback is off"), std::string::npos);
  EXPECT_NE(with({"<pad>", 0, kUnknown}).find("both of type unknown"), std::string::npos);
  EXPECT_NE(message_of([] { make_bin({{"a"}, {"b"}}); }).find("begins with <unk>"), std::string::npos);
}

// A user-defined piece that ends inside of a character made encode() loop until memory ended.
TEST(Tokenizer, PiecesAndRulesThatAreNotUtf8AreRefused) {
  std::vector<TestPiece> pieces = small_vocabulary(false);
  EXPECT_NE(message_of([&] {
              std::vector<TestPiece> more = pieces;
              more.push_back({" \xff", 0, kUserDefined});
              make_model(more, {.byte_fallback = true})
                  ->encode(
                      "a \xff"
                      "a");
            }).find("piece 265 is not UTF-8"),
            std::string::npos);
  // "A" becomes a byte that is no character: the root's children lie at 0, those of "A" at 65 ^ 1
  std::vector<uint32_t> units(66);
  units['A'] = 'A' | 1 << 8 | 1 << 10;
  units['A' ^ 1] = 1u << 31;
  std::string charsmap = raw(static_cast<uint32_t>(units.size() * 4));
  for (const uint32_t unit : units) charsmap += raw(unit);
  const auto with_rule = [&](const std::string& becomes) {
    return make_model(pieces, {.byte_fallback = true, .charsmap = charsmap + becomes + '\0'})->encode("A");
  };
  EXPECT_EQ(with_rule("b"), (Ids{259, 261}));
  EXPECT_NE(message_of([&] { with_rule("\xff"); }).find("charsmap's texts are not UTF-8"), std::string::npos);
}

TEST(Tokenizer, IsFoundBesideAModelAndCopied) {
  TempDir dir;
  const Path a = dir.path() / "a", b = dir.path() / "b";
  for (const Path& path : {a, b}) std::filesystem::create_directory(path);
  auto write = [](const Path& path, const std::string& bytes) {
    std::ofstream(path, std::ios::binary) << bytes;
  };
  // a v0 checkpoint begins with its width and its MLP's
  write(a / "model.bin", raw<int32_t>(64) + raw<int32_t>(172) + std::string(100, '\0'));
  EXPECT_EQ(find_tokenizer(a), nullptr);
  EXPECT_EQ(find_tokenizer(a / "model.bin"), nullptr);
  EXPECT_NE(message_of([&] { load_tokenizer((a / "model.bin").string()); }).find("--tokenizer"),
            std::string::npos);
  write(a / "tokenizer.json", "{}");
  EXPECT_NE(message_of([&] { find_tokenizer(a); }).find("tokenizer.json"), std::string::npos);
  std::filesystem::remove(a / "tokenizer.json");
  write(a / "tok6.model", model_file(small_vocabulary(false), {.byte_fallback = true}));
  EXPECT_STREQ(find_tokenizer(a)->kind(), "SentencePiece BPE");
  write(a / "tok6.bin", bin_file(small_vocabulary(true)));
  EXPECT_STREQ(find_tokenizer(a / "model.bin")->kind(), "llama2.c");
  EXPECT_STREQ(load_tokenizer((a / "tok6.model").string())->kind(), "SentencePiece BPE");
  write(a / "tok7.bin", bin_file(small_vocabulary(true)));
  EXPECT_NE(message_of([&] { find_tokenizer(a); }).find("which is the tokenizer"), std::string::npos);
  EXPECT_THROW(load_tokenizer((a / "absent.bin").string()), Error);
  EXPECT_THROW(load_tokenizer("vocab.json,merges.txt"), Error);
  for (const std::string& what :
       {(a / "tok6.model").string(), (a / "tok6.bin").string(), std::string("bytes")}) {
    const Loaded t = load_tokenizer(what);
    std::filesystem::remove_all(b);
    std::filesystem::create_directory(b);
    copy_tokenizer(*t, b);
    const Loaded copy = find_tokenizer(b);
    ASSERT_NE(copy, nullptr);
    EXPECT_STREQ(copy->kind(), t->kind());
    EXPECT_EQ(copy->encode("a  b"), t->encode("a  b"));
  }
}

// Reads a damaged file: fine, or an Error that names it; then it must encode and decode.
void read_damaged(bool bin, const std::string& bytes) {
  try {
    const Loaded t = bin ? make_llama2c_tokenizer(bytes, "damaged.file")
                         : make_sentencepiece_tokenizer(bytes, "damaged.file");
    const Ids ids = t->encode("a b  ab\xff€ the <0x0A>", {.add_special = true});
    for (const int32_t id : ids) EXPECT_TRUE(id >= 0 && id < t->size());
    t->decode(ids);
  } catch (const Error& error) {
    EXPECT_EQ(std::string(error.what()).rfind("damaged.file: ", 0), 0u) << error.what();
  }
}

TEST(Tokenizer, DamagedFilesGiveErrors) {
  Philox random(2);
  for (const bool bin : {true, false}) {
    const std::string file =
        bin ? bin_file(small_vocabulary(true)) : model_file(small_vocabulary(false), {.byte_fallback = true});
    for (int i = 0; i < 100; i++) read_damaged(bin, file.substr(0, file.size() * i / 100));
    for (int i = 0; i < 4000; i++) {
      std::string damaged = file;
      for (uint64_t n = 1 + random.below(4); n > 0; n--) {
        damaged[random.below(damaged.size())] = static_cast<char>(random.below(256));
      }
      read_damaged(bin, damaged);
    }
    EXPECT_THROW(make_bin({}), Error);
    EXPECT_THROW(make_sentencepiece_tokenizer("", "empty"), Error);
  }
}

TEST(Tokenizer, AMillionLettersTakeLinearithmicTime) {
  std::vector<TestPiece> pieces = with_bytes(true);
  pieces.push_back({" ", -100});
  std::string text = "a";
  for (int i = 0; i < 16; i++, text += text) pieces.push_back({text, -static_cast<float>(i)});
  const Loaded t = make_bin(pieces);
  const std::string word(1000000, 'a');
  const auto start = std::chrono::steady_clock::now();
  const Ids ids = t->encode(word);
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
  EXPECT_EQ(t->decode(ids), word);
  EXPECT_LT(ids.size(), 100u);
  // 0.3 s, thirty times that under a thread sanitizer on a busy machine; quadratic would be hours
  EXPECT_LT(seconds.count(), 60);
}

// Golden rows: what the libraries themselves give.
void expect_golden(const std::string& what, const Path& rows) {
  SCOPED_TRACE(rows.string());
  const Loaded t = load_tokenizer(what);
  std::ifstream lines(rows);
  std::string line;
  int count = 0;
  for (; std::getline(lines, line); count++) {
    const Json row = Json::parse(line, rows.string());
    const std::string& text = row.text("text");
    Ids ids;
    for (const Json& id : row.at("ids").as_array()) ids.push_back(static_cast<int32_t>(id.as_integer()));
    EXPECT_EQ(t->encode(text, {row.flag("add_special", false), row.flag("parse_special")}), ids) << text;
    EXPECT_EQ(t->decode(ids, true), row.text("decoded", text)) << text;
  }
  EXPECT_GT(count, 70);
}

TEST(Tokenizer, GoldenRows) {
  const Path dir = shared_dir() / "tokenizers";
  SKIP_WITHOUT(dir / "golden");
  const auto at = [&](const char* name) { return (dir / name).string(); };
  expect_golden(at("llama2-tokenizer.model"), at("golden/llama2.jsonl"));
  expect_golden(at("mistral_tokenizer.model.v1"), at("golden/mistral_v1.jsonl"));
  expect_golden(at("20B_tokenizer.json"), at("golden/gpt_neox_20b.jsonl"));
  expect_golden(at("gpt2_vocab.json") + "," + at("gpt2_merges.txt"), at("golden/gpt2.jsonl"));
  for (const char* name : {"bpe_llama", "bpe_llama3", "bpe_llama_metaspace", "bpe_qwen2"}) {
    expect_golden(at("golden/") + name + ".json", at("golden/") + name + ".jsonl");
  }
  for (const char* name : {"unigram_identity", "unigram_nfkc"}) {
    expect_golden(at("golden/") + name + ".model", at("golden/") + name + ".jsonl");
  }
}

// llama.cpp's own cases of a vocabulary in a GGUF; its copy in a folder must give the same.
TEST(Tokenizer, GgufVocabularies) {
  const Path dir = shared_dir() / "tokenizers";
  SKIP_WITHOUT(dir / "ggml-vocab-llama-spm.gguf.inp");
  for (const char* name : {"llama-spm", "gpt-2", "mpt"}) {
    const std::string file = (dir / "ggml-vocab-").string() + name + ".gguf";
    const Loaded t = load_tokenizer(file);
    TempDir folder;
    copy_tokenizer(*t, folder.path());
    const Loaded copy = find_tokenizer(folder.path());
    const std::string inputs = read_file(file + ".inp"), mark = "\n__ggml_vocab_test__\n";
    std::ifstream outputs(file + ".out");
    int count = 0;
    for (size_t begin = 0, end; begin < inputs.size(); begin = end + mark.size(), count++) {
      end = std::min(inputs.find(mark, begin), inputs.size());
      std::string line;
      ASSERT_TRUE(std::getline(outputs, line));
      std::istringstream numbers(line);
      const Ids ids{std::istream_iterator<int32_t>(numbers), {}};
      EXPECT_EQ(t->encode(inputs.substr(begin, end - begin)), ids) << name << ": " << line;
      EXPECT_EQ(copy->encode(inputs.substr(begin, end - begin)), ids) << name << ", copied: " << line;
    }
    EXPECT_GE(count, 45);
    EXPECT_EQ(copy->bos(), t->bos());
    EXPECT_EQ(copy->adds_bos(), t->adds_bos());
  }
}

Path smollm2() {
  const char* home = std::getenv("HOME");
  return Path(home ? home : "") / ".cache/supra/SmolLM2-135M-Instruct.Q4_1.gguf";
}

TEST(Tokenizer, SmolLm2) {
  const Path golden = shared_dir() / "golden/smollm2";
  SKIP_WITHOUT(smollm2());
  SKIP_WITHOUT(golden / "tokens.jsonl");
  expect_golden(smollm2().string(), golden / "tokens.jsonl");
  TempDir folder;
  copy_tokenizer(*load_tokenizer(smollm2().string()), folder.path());
  expect_golden(folder.path().string(), golden / "tokens.jsonl");
  EXPECT_STREQ(chat_template_of(find_tokenizer(folder.path())->chat_template()).name(), "chatml");
}

// Its template has a system message of its own.
TEST(Tokenizer, SmolLm2Conversations) {
  SKIP_WITHOUT(smollm2());
  SKIP_WITHOUT(shared_dir() / "golden/smollm2/prompts.jsonl");
  const ChatTemplate chat = chat_template_of(load_tokenizer(smollm2().string())->chat_template());
  std::ifstream lines(shared_dir() / "golden/smollm2/prompts.jsonl");
  int count = 0;
  for (std::string line; std::getline(lines, line);) {
    const Json row = Json::parse(line, "prompts.jsonl");
    if (!row.find("messages")) continue;
    std::vector<ChatMessage> messages;
    for (const Json& m : row.at("messages").as_array())
      messages.push_back({m.text("role"), m.text("content")});
    EXPECT_EQ(chat.render(messages, true), row.text("prompt"));
    count++;
  }
  EXPECT_EQ(count, 2);
}

TEST(Tokenizer, ChatTemplates) {
  const std::vector<ChatMessage> talk = {{"system", "S"}, {"user", "U"}, {"assistant", "A"}, {"user", "V"}};
  const auto render = [&](const char* program) { return chat_template_of(program).render(talk, true); };
  EXPECT_EQ(
      render("<|im_start|>"),
      "<|im_start|>system\nS<|im_end|>\n<|im_start|>user\nU<|im_end|>\n<|im_start|>assistant\nA<|im_end|>\n"
      "<|im_start|>user\nV<|im_end|>\n<|im_start|>assistant\n");
  EXPECT_EQ(render("<|start_header_id|>"),
            "<|start_header_id|>system<|end_header_id|>\n\nS<|eot_id|><|start_header_id|>user<|end_header_id|"
            ">\n\nU<|eot_id|>"
            "<|start_header_id|>assistant<|end_header_id|>\n\nA<|eot_id|><|start_header_id|>user<|end_header_"
            "id|>\n\nV<|eot_id|>"
            "<|start_header_id|>assistant<|end_header_id|>\n\n");
  EXPECT_EQ(render("[INST] <<SYS>>"), "[INST] <<SYS>>\nS\n<</SYS>>\n\nU [/INST] A </s><s>[INST] V [/INST]");
  EXPECT_EQ(render("[INST]"), "[INST] S\n\nU [/INST]A</s>[INST] V [/INST]");
  EXPECT_EQ(render(""), "S\nUser: U\nAssistant: A\nUser: V\nAssistant:");
  EXPECT_EQ(chat_template_of("'<|im_start|>system\\nBe kind.<|im_end|>'").default_system, "Be kind.");
  EXPECT_THROW(chat_template_of("{{ messages }}"), Error);
  EXPECT_THROW(chat_template_of("").render(std::vector<ChatMessage>{{"tool", ""}}, true), Error);
}

// uint16 ids, 50256 behind each story; in the text a line end, <|endoftext|> and a line end.
TEST(Tokenizer, TinyStoriesIdForId) {
  const Path dir = shared_dir() / "tokenizers", data = shared_dir() / "data/tinystories";
  SKIP_WITHOUT(data / "val.decoded.txt");
  const Loaded t =
      load_tokenizer((dir / "gpt2_vocab.json").string() + "," + (dir / "gpt2_merges.txt").string());
  const std::string text = read_file(data / "val.decoded.txt"), bin = read_file(data / "val.bin"),
                    mark = "\n<|endoftext|>\n";
  Ids ids, expected;
  for (size_t begin = 0, end; begin < text.size(); begin = end + mark.size()) {
    end = std::min(text.find(mark, begin), text.size());
    const Ids story = t->encode(std::string_view(text).substr(begin, end - begin));
    ids.insert(ids.end(), story.begin(), story.end());
    ids.push_back(t->eos());
  }
  for (size_t i = 0; i + 1 < bin.size(); i += 2)
    expected.push_back(uint8_t(bin[i]) | uint8_t(bin[i + 1]) << 8);
  EXPECT_EQ(ids.size(), 622159u);
  EXPECT_TRUE(ids == expected);
}

TEST(Tokenizer, JsonRefusalsNameTheFeature) {
  TempDir dir;
  const auto refusal = [&](const std::string& key, const std::string& value) {
    std::string text =
        R"({"pre_tokenizer": {"type": "ByteLevel"}, "model": {"vocab": {"a": 0}, "merges": []}})";
    text.insert(1, '"' + key + "\": " + value + ", ");
    if (key == "pre_tokenizer" || key == "model") {
      const std::string level = R"({"type": "ByteLevel"})", model = R"({"vocab": {"a": 0}, "merges": []})";
      text = R"({"pre_tokenizer": )" + (key == "pre_tokenizer" ? value : level) + R"(, "model": )" +
             (key == "model" ? value : model) + "}";
    }
    std::ofstream(dir.path() / "tokenizer.json") << text;
    return message_of([&] { load_tokenizer((dir.path() / "tokenizer.json").string()); });
  };
  EXPECT_EQ(refusal("version", "1"), "no error");
  const auto names = [&](const std::string& key, const std::string& value, const char* part) {
    const std::string message = refusal(key, value);
    EXPECT_NE(message.find(part), message.npos) << message;
  };
  names("normalizer", R"({"type": "BertNormalizer"})", "normalizer BertNormalizer");
  names("model", R"({"type": "WordPiece", "vocab": {}})", "the model WordPiece");
  names("model", R"({"type": "Unigram", "vocab": []})", "without pieces");
  names("model", R"({"type": "Unigram", "vocab": [["a", 0.5]], "unk_id": 1})", "unk_id is 1 of 1");
  names("model", R"({"vocab": {"a": 0}, "merges": [], "end_of_word_suffix": "</w>"})", "end_of_word_suffix");
  names("pre_tokenizer", R"({"type": "UnicodeScripts"})", "pre-tokenizer UnicodeScripts");
  names("pre_tokenizer", R"({"type": "Split", "pattern": {"String": " "}, "behavior": "Some"})", "behavior Some");
  names("decoder", R"({"type": "WordPiece"})", "decoder WordPiece");
  names("post_processor", R"({"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "<s>"}}]})", "token that is not there");
  for (const auto& [regex, part] : {std::pair("(?<=x)y", "lookbehind"), {"(x", "without a closing one"}, {"x)", "without an opening one"}, {"[a-", "ends too soon"}, {"\\\\1", "escape \\1"},
                                    {"[[a]b]", "nested classes"}, {"[a&&b]", "intersections of classes"}, {"\\\\p{Han}", "property Han"}, {"*", "nothing to repeat"},
                                    {"(((a{999}b){999}){999}){9}", "too large"}, {"(?x)a", "this kind of group"}, {"[z-a]", "backwards"}}) {
    names("pre_tokenizer", format(R"({"type": "Split", "pattern": {"Regex": "%s"}, "behavior": "Isolated"})", regex), part);
  }
  // memory is bounded by the file
  EXPECT_NE(refusal("model", R"({"vocab": {"a": 2000000000}, "merges": []})").find("2000000000"),
            std::string::npos);
}

// A tokenizer.json of a few pieces; the ids below are those of Hugging Face's tokenizers 0.23 for the same
// text.
Loaded small_json(const TempDir& dir, const std::string& pre_tokenizers, const std::string& rest = "") {
  std::ofstream(dir.path() / "tokenizer.json")
      << R"({"pre_tokenizer": {"type": "Sequence", "pretokenizers": [)" << pre_tokenizers << "]}, " << rest
      << R"("model": {"type": "BPE",
    "vocab": {"a": 0, "1": 1, "2": 2, "x": 3, "Ġ": 4, "Ġa": 5, "12": 6, "a1": 7, "Ġ1": 8, "ĠĠ": 9},
    "merges": ["Ġ a", "1 2", "a 1", "Ġ 1", "Ġ Ġ"]}})";
  return load_tokenizer((dir.path() / "tokenizer.json").string());
}

TEST(Tokenizer, JsonPreTokenizersCutAsTheirLibraryDoes) {
  const TempDir dir;
  const std::string digits = R"({"type": "Digits", "individual_digits": true})";
  const std::string split =
      R"({"type": "Split", "behavior": "Isolated", "pattern": {"Regex": "'s|'t|'re|'ve|'m|'ll|'d| )"
      R"(?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+"}})";
  const auto byte_level = [](const char* regex, const char* space) {
    return format(R"({"type": "ByteLevel", "use_regex": %s, "add_prefix_space": %s})", regex, space);
  };
  const std::string plain = byte_level("false", "false"), cuts = byte_level("true", "false");
  const auto encode = [&](const std::string& list) { return small_json(dir, list)->encode("a1 12  a1xa1"); };
  EXPECT_EQ(encode(cuts), (Ids{0, 1, 4, 6, 4, 5, 1, 3, 0, 1}));
  EXPECT_EQ(encode(byte_level("true", "true")), (Ids{5, 1, 4, 6, 4, 5, 1, 3, 0, 1}));
  EXPECT_EQ(encode(plain), (Ids{7, 4, 6, 4, 5, 1, 3, 7}));
  EXPECT_EQ(encode(byte_level("false", "true")), (Ids{5, 1, 4, 6, 4, 5, 1, 3, 7}));
  EXPECT_EQ(encode(digits + "," + cuts), (Ids{0, 1, 4, 1, 2, 4, 5, 1, 3, 0, 1}));
  EXPECT_EQ(encode(split + "," + plain), (Ids{0, 1, 4, 6, 4, 5, 1, 3, 0, 1}));

  // an expression that backtracks for ever says so
  const std::string endless = R"({"type": "Split", "behavior": "Isolated", "pattern": {"Regex": "(a+)+b"}})";
  const Loaded t = small_json(dir, endless + "," + plain);
  const std::string message = message_of([&] { t->encode(std::string(40, 'a')); });
  EXPECT_NE(message.find("takes too long"), message.npos) << message;
}

// Of two tokens, only the normalised one is found in another spelling.
TEST(Tokenizer, JsonAddedTokensAreNormalisedWhereTheyAskForIt) {
  const TempDir dir;
  const Loaded t =
      small_json(dir, R"({"type": "ByteLevel"})", R"("normalizer": {"type": "NFC"}, "added_tokens": [
    {"id": 10, "content": "e\u0301x", "normalized": true}, {"id": 11, "content": "e\u0300x", "normalized": false}],)");
  EXPECT_EQ(t->encode("a\u00e9xe\u0301x\u00e8xe\u0300x"), (Ids{5, 10, 10, 4, 3, 11}));
  EXPECT_EQ(t->decode(Ids{10}), "\u00e9x");
}

// Truncated and flipped: an Error, or a tokenizer that encodes and decodes.
TEST(Tokenizer, DamagedVocabulariesGiveErrors) {
  const Path dir = shared_dir() / "tokenizers";
  SKIP_WITHOUT(dir / "golden");
  Philox random(5);
  TempDir folder;
  const auto try_to_read = [&](const Path& name, const std::string& bytes) {
    const Path path = folder.path() / name;
    std::ofstream(path, std::ios::binary) << bytes;
    try {
      const Loaded t = load_tokenizer(path.string());
      const Ids ids = t->encode("It's 12345 <s>\xff \u00e9e\u0301 the", {true, true});
      for (const int32_t id : ids) ASSERT_TRUE(id >= 0 && id < t->size());
      t->decode(ids, true);
    } catch (const Error&) {
    }
  };
  for (const char* name : {"golden/bpe_llama.json", "golden/bpe_qwen2.json", "golden/unigram_identity.model",
                           "golden/unigram_nfkc.model"}) {
    const std::string file = read_file(dir / name);
    for (size_t i = 0; i < 200; i++) {
      try_to_read(Path(name).filename(), file.substr(0, file.size() * i / 200));
      std::string flipped = file;
      flipped[random.below(file.size())] ^= static_cast<char>(1 + random.below(255));
      try_to_read(Path(name).filename(), flipped);
    }
  }
  // of a large GGUF, the part in front of its list of pieces and a little of that
  const std::string file = read_file(dir / "ggml-vocab-llama-spm.gguf");
  for (size_t i = 0; i < 20; i++) {
    try_to_read("v.gguf", file.substr(0, file.size() * i / 20));
    std::string flipped = file;
    flipped[random.below(2000)] ^= static_cast<char>(1 + random.below(255));
    try_to_read("v.gguf", flipped);
  }
}

// Two files of one vocabulary.
TEST(Tokenizer, Llama2BinAgreesWithModel) {
  const Path dir = shared_dir() / "tokenizers";
  SKIP_WITHOUT(dir / "llama2-tokenizer.bin");
  const Loaded bin = load_tokenizer((dir / "llama2-tokenizer.bin").string());
  const Loaded model = load_tokenizer((dir / "llama2-tokenizer.model").string());
  ASSERT_EQ(bin->size(), model->size());
  std::ifstream lines(dir / "golden/llama2.jsonl");
  int count = 0;
  for (std::string line; std::getline(lines, line);) {
    const std::string text = Json::parse(line, "llama2.jsonl").text("text");
    if (!std::all_of(text.begin(), text.end(), [](char c) { return c > 0 && c < 127; })) continue;
    EXPECT_EQ(bin->encode(text), model->encode(text)) << text;
    EXPECT_EQ(bin->decode(bin->encode(text)), text);
    count++;
  }
  EXPECT_GT(count, 50);
}

TEST(Tokenizer, ProbeTextGivesTheDocumentedIds) {
  SKIP_WITHOUT(shared_dir() / "data/tinystories/probe.txt");
  const std::string probe = read_file(shared_dir() / "data/tinystories/probe.txt");
  auto with_bos = [](const Tokenizer& t, std::string_view text) {
    Ids ids = t.encode(text);
    ids.insert(ids.begin(), t.bos());
    return ids;
  };
  const Path models = shared_dir() / "models";
  const Loaded tok512 = find_tokenizer(models / "stories260K/stories260K.bin");
  ASSERT_STREQ(tok512->kind(), "llama2.c");
  EXPECT_EQ(tok512->size(), 512);
  const Ids words = with_bos(*tok512, probe);
  EXPECT_EQ(words.size(), 171u);
  EXPECT_EQ(Ids(words.begin(), words.begin() + 12),
            (Ids{1, 301, 427, 309, 426, 301, 427, 309, 394, 265, 262, 415}));
  EXPECT_EQ(tok512->decode(words), probe);
  EXPECT_EQ(tok512->decode(Ids{1, 403, 407, 261, 378, 432}), "Once upon a time,");
  EXPECT_EQ(
      load_tokenizer((models / "stories260K/tok512.model").string())->encode("Once upon a time, \u00e9"),
      tok512->encode("Once upon a time, \u00e9"));
  const Loaded tok105 = load_tokenizer((models / "babyllama-tok105").string());
  EXPECT_EQ(tok105->size(), 105);
  const std::string paragraph = probe.substr(0, probe.find('\n'));
  const Ids letters = with_bos(*tok105, paragraph);
  EXPECT_EQ(letters.size(), 155u);
  EXPECT_EQ(Ids(letters.begin(), letters.begin() + 12), (Ids{1, 3, 30, 20, 7, 6, 19, 3, 30, 20, 7, 6}));
  EXPECT_EQ(tok105->decode(letters), paragraph);
  EXPECT_EQ(tok105->encode("a\nb").at(2), 0);
}

TEST(Tokenizer, DamagedRealFilesGiveErrors) {
  Philox random(3);
  int read = 0;
  for (const char* name : {"models/stories260K/tok512.bin", "models/stories260K/tok512.model",
                           "models/babyllama-tok105/tok105.model", "tokenizers/llama2-tokenizer.bin",
                           "tokenizers/llama2-tokenizer.model"}) {
    const Path path = shared_dir() / name;
    if (!std::filesystem::exists(path)) continue;
    const std::string file = read_file(path);
    const bool bin = path.extension() == ".bin";
    for (int i = 0; i < 100; i++) read_damaged(bin, file.substr(0, file.size() * i / 100));
    for (int i = 0; i < (file.size() < 10000 ? 1000 : 3); i++) {
      std::string damaged = file;
      damaged[random.below(damaged.size())] ^= static_cast<char>(1 + random.below(255));
      read_damaged(bin, damaged);
    }
    read++;
  }
  if (read == 0) GTEST_SKIP() << shared_dir() << " is not here (set SUPRA_SHARED)";
}

TEST(Tokenizer, AMillionLettersOfLlama2) {
  const Path path = shared_dir() / "tokenizers/llama2-tokenizer.model";
  SKIP_WITHOUT(path);
  const Loaded t = load_tokenizer(path.string());
  Philox random(4);
  std::string word;
  while (word.size() < 1000000) word += static_cast<char>('a' + random.below(26));
  const auto start = std::chrono::steady_clock::now();
  const Ids ids = t->encode(word);
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
  EXPECT_EQ(t->decode(ids), word);
  EXPECT_LT(seconds.count(), 60);
}

}  // namespace
}  // namespace supra
