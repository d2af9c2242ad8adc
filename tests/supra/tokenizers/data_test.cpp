#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <set>

#include "supra/formats/parse/crc32.h"
#include "supra/tokenizers/shard.h"
#include "supra/training/loader.h"
#include "tests/fuzz_formats.h"
#include "tests/small_files.h"
#include "tests/support.h"
#include "tests/tiny_model.h"

namespace supra {
namespace {

using Strings = std::vector<std::string>;

const Tokenizer& bytes() {
  static const auto tokenizer = load_tokenizer("bytes");
  return *tokenizer;
}

Path write_text(const TempDir& directory, const std::string& name, const std::string& text) {
  write_file_atomically(directory.path() / name, text);
  return directory.path() / name;
}

std::string joined(const Strings& documents) {
  std::string text;
  for (const std::string& document : documents) text += document + "\n<end>\n";
  return text;
}

// Every one is another, and some are longer than a row of the tests.
Strings some_documents(int n, char mark = 'd') {
  Strings documents;
  for (int i = 0; i < n; i++)
    documents.push_back(format("%c%d %s", mark, i, std::string(i * 7 % 23 + (i % 9 ? 0 : 50), 'x').c_str()));
  return documents;
}

Corpus corpus_of(const Strings& documents, double weight = 0) {
  const TempDir directory;
  Corpus corpus =
      read_corpus({{write_text(directory, "text.txt", joined(documents)), weight}}, bytes(), "<end>");
  return corpus;
}

Corpus two_sources() {
  Corpus corpus = corpus_of(some_documents(40, 'a'), 2);
  corpus.sources.push_back(corpus_of(some_documents(15, 'b'), 1).sources[0]);
  return corpus;
}

std::string message_of(const std::function<void()>& f) {
  try {
    f();
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

Path write_shard(const Path& path, const Path& text, const Tokenizer& tokenizer, bool lines = false) {
  ShardWriter shard(path, tokenizer);
  encode_file(text, tokenizer, "<end>", lines, [&](const EncodedDocument& document) { shard.add(document); });
  shard.finish();
  return path;
}

void expect_same(const Source& a, const Source& b) {
  ASSERT_EQ(a.documents(), b.documents());
  ASSERT_EQ(a.tokens(), b.tokens());
  EXPECT_EQ(a.text_bytes(), b.text_bytes());
  for (int64_t d = 0; d <= a.documents(); d++) EXPECT_EQ(a.start(d), b.start(d));
  for (int64_t i = 0; i < a.tokens(); i++) ASSERT_EQ(a.id(i), b.id(i)) << i;
}

TEST(Documents, AreCutAndStripped) {
  const auto documents = split_documents("\none\n<|e|>\n\n<|e|>two\nlines\n<|e|>", "<|e|>");
  ASSERT_EQ(documents.size(), 2u);
  EXPECT_EQ(documents[0], "one");
  EXPECT_EQ(documents[1], "two\nlines");
  EXPECT_EQ(split_documents("\nall of it\n", "").size(), 1u);
  EXPECT_EQ(split_documents("\nall of it\n", "")[0], "\nall of it\n");
}

TEST(Corpus, IsTheSameFromTextAndFromLines) {
  const TempDir directory;
  const Path text = write_text(directory, "a.txt", joined({"one", "t\xc3\xa9 \"2\"", "three"}));
  const Path lines = write_text(directory, "a.jsonl", R"({"text": "one"}

{"text": "t\u00e9 \"2\"", "other": 1}
{"text": ""}
{"text": "three"})");
  const Corpus a = read_corpus({text}, bytes(), "<end>"), b = read_corpus({lines}, bytes(), "");
  expect_same(a.sources[0], b.sources[0]);
  EXPECT_EQ(a.documents(), 3);
  EXPECT_EQ(a.text_bytes(), 3 + 7 + 5);
  // texts without a weight are one source
  const Corpus both = read_corpus({text, lines}, bytes(), "<end>");
  EXPECT_EQ(both.sources.size(), 1u);
  EXPECT_EQ(both.tokens(), 2 * a.tokens());
  EXPECT_EQ(read_corpus({{text, 1}, {lines, 2}}, bytes(), "<end>").sources.size(), 2u);
}

TEST(Corpus, NamesTheFileAndTheLine) {
  const TempDir directory;
  const Path lines = write_text(directory, "a.jsonl", "{\"text\": \"a\"}\n\n{\"txt\": \"b\"}\n");
  EXPECT_NE(message_of([&] { read_corpus({lines}, bytes(), ""); }).find("a.jsonl:3"), std::string::npos);
  const Path empty = write_text(directory, "empty.txt", "\n<end>\n");
  EXPECT_TRUE(message_of([&] { read_corpus({empty}, bytes(), "<end>"); }).starts_with(empty.string()));
  const Path text = write_text(directory, "a.txt", "a");
  EXPECT_NE(message_of([&] {
              read_corpus({{text, 1}, {text, 0}}, bytes(), "");
            }).find("weight"),
            std::string::npos);
}

using Ids = std::vector<int32_t>;

// Letters, and the special tokens named; `config` is its tokenizer_config.json.
std::shared_ptr<const Tokenizer> letters(const TempDir& directory, const Strings& special, const std::string& config = "{}") {
  std::string vocabulary, added;
  for (int i = 0; i < 26; i++) vocabulary += format("%s\"%c\": %d", i ? ", " : "", 'a' + i, i);
  for (size_t i = 0; i < special.size(); i++)
    added += format(R"(%s{"id": %zu, "content": "%s", "special": true})", i ? ", " : "", 26 + i, special[i].c_str());
  write_bytes(directory.path() / "tokenizer.json",
              R"({"pre_tokenizer": {"type": "ByteLevel"}, "added_tokens": [)" + added +
                  R"(], "model": {"type": "BPE", "vocab": {)" + vocabulary + R"(}, "merges": []}})");
  write_bytes(directory.path() / "tokenizer_config.json", config);
  return load_tokenizer((directory.path() / "tokenizer.json").string());
}

// Every step that some batches of a packing hold: a token and its target.
std::set<std::pair<int32_t, int32_t>> steps_of(const Corpus& corpus, Packing packing) {
  BatchLoader loader(corpus, 2, 8, 3, packing);
  std::set<std::pair<int32_t, int32_t>> steps;
  for (int i = 0; i < 100; i++) {
    const Batch batch = loader.next();
    int64_t count = 0;
    for (int64_t j = 0; j < batch.tokens.numel(); j++) {
      const int32_t target = batch.targets.data<int32_t>()[j];
      if (target == kIgnore) continue;
      steps.emplace(batch.tokens.data<int32_t>()[j], target);
      count++;
    }
    EXPECT_EQ(batch.steps, count);
  }
  return steps;
}

// What stands around a document is the tokenizer's; its end is a target in every packing, and no other document is
// predicted from a document's text.
TEST(Documents, EndWithWhatTheirTokenizerSeparatesThemBy) {
  const TempDir json, chat, bare;
  const std::string chatml = R"({"bos_token": "<|im_start|>", "eos_token": "<|im_end|>"})";
  const struct {
    std::shared_ptr<const Tokenizer> tokenizer;
    int32_t begin, end;
  } kinds[] = {
      {load_tokenizer("bytes"), 0, 0},
      {make_llama2c_tokenizer(bin_file(small_vocabulary(true)), "a.bin"), 1, 1},
      {make_sentencepiece_tokenizer(model_file(small_vocabulary(false), {.byte_fallback = true}), "a.model"), 1, 2},
      {letters(json, {"<|endoftext|>"}), -1, 26},
      {letters(chat, {"<|im_start|>", "<|im_end|>"}, chatml), -1, 27},
      {letters(bare, {}), -1, -1},
  };
  const TempDir directory;
  const Strings documents = {"ab", "cdefghijklm", "no", "pqrst"};
  const Path text = write_text(directory, "a.txt", joined(documents));
  for (const auto& kind : kinds) {
    const Tokenizer::DocumentMarks marks = kind.tokenizer->document_marks();
    EXPECT_EQ(marks.begin, kind.begin) << kind.tokenizer->kind();
    EXPECT_EQ(marks.end, kind.end) << kind.tokenizer->kind();
    const Corpus corpus = read_corpus({text}, *kind.tokenizer, "<end>");
    std::set<std::pair<int32_t, int32_t>> inside, between;
    Ids all;
    for (const std::string& document : documents) {
      Ids ids = kind.tokenizer->encode(document);
      if (marks.begin >= 0) ids.insert(ids.begin(), marks.begin);
      if (marks.end >= 0) ids.push_back(marks.end);
      for (size_t i = 1; i < ids.size(); i++) inside.emplace(ids[i - 1], ids[i]);
      between.emplace(marks.end, ids[0]);
      all.insert(all.end(), ids.begin(), ids.end());
    }
    ASSERT_EQ(corpus.tokens(), static_cast<int64_t>(all.size()));
    for (size_t i = 0; i < all.size(); i++) EXPECT_EQ(corpus.sources[0].id(static_cast<int64_t>(i)), all[i]);

    EXPECT_EQ(steps_of(corpus, Packing::documents), inside);
    EXPECT_EQ(steps_of(corpus, Packing::carried), inside);
    if (marks.end < 0) {
      EXPECT_NE(message_of([&] { BatchLoader(corpus, 2, 8, 3); }).find("--pack documents"), std::string::npos);
      continue;
    }
    if (marks.end != marks.begin) inside.merge(between);
    EXPECT_EQ(steps_of(corpus, Packing::stream), inside);
  }
}

TEST(Documents, ThatWereCutOffDoNotEnd) {
  const std::set<std::pair<int32_t, int32_t>> inside = {{1, 5}, {5, 6}, {6, 2}, {1, 7}, {7, 8}};
  const Corpus corpus = {{Source({1, 5, 6, 2, 1, 7, 8}, {0, 4, 7}, 0, {1, 2})}};
  EXPECT_EQ(steps_of(corpus, Packing::documents), inside);
  EXPECT_EQ(steps_of(corpus, Packing::carried), inside);
  auto streamed = inside;
  streamed.emplace(2, 1);
  EXPECT_EQ(steps_of(corpus, Packing::stream), streamed);
  const Corpus by_bos = {{Source({1, 5, 6, 1, 1, 7, 8}, {0, 4, 7}, 0, {1, 1})}};
  EXPECT_EQ(steps_of(by_bos, Packing::stream), (std::set<std::pair<int32_t, int32_t>>{{1, 5}, {5, 6}, {6, 1}, {1, 7}, {7, 8}}));
}

TEST(Shard, HoldsWhatTheTextGives) {
  const TempDir directory;
  const Path text = write_text(directory, "a.txt", joined(some_documents(300)));
  std::vector<TestPiece> many = small_vocabulary(true);
  while (many.size() < 70000) many.push_back({format("p%zu", many.size()), 0});
  const auto large = make_llama2c_tokenizer(bin_file(many), "large.bin");
  for (const Tokenizer* tokenizer : {&bytes(), large.get()}) {
    const Path shard = write_shard(directory.path() / "a.shard", text, *tokenizer);
    const Corpus corpus = read_corpus({text}, *tokenizer, "<end>");
    ASSERT_TRUE(is_shard(shard));
    expect_same(read_corpus({shard}, *tokenizer, "").sources[0], corpus.sources[0]);
    const size_t id_bytes = tokenizer == large.get() ? 4 : 2;
    EXPECT_LE(read_file(shard).size(), 56 + id_bytes * corpus.tokens() + 8 * 302);
  }
}

TEST(Shard, RefusesDamageAndOtherTokenizers) {
  const TempDir directory;
  const Path text = write_text(directory, "a.txt", joined({"one", "two"})), path = directory.path() / "a.bin";
  const std::string whole = read_file(write_shard(path, text, bytes()));
  EXPECT_EQ(message_of([&] { read_shard(path, bytes()); }), "");
  const auto refused = [&](const std::string& damaged) {
    write_bytes(path, damaged);
    return message_of([&] { read_corpus({path}, bytes(), ""); }).starts_with(path.string());
  };
  for (size_t i = 0; i < whole.size(); i++) {
    EXPECT_TRUE(refused(whole.substr(0, i))) << "cut at " << i;
    std::string flipped = whole;
    flipped[i] ^= 4;
    EXPECT_TRUE(refused(flipped)) << "changed at " << i;
  }
  EXPECT_TRUE(refused(whole + '\0'));
  write_file_atomically(path, whole);
  std::vector<TestPiece> pieces = with_bytes(true);
  pieces.resize(256);
  const auto other = make_llama2c_tokenizer(bin_file(pieces), "other.bin");
  ASSERT_EQ(other->size(), bytes().size());
  EXPECT_NE(message_of([&] { read_shard(path, *other); }).find("another tokenizer"), std::string::npos);
}

TEST(Shard, RefusesOneWithoutEnds) {
  const TempDir directory;
  const Path path = write_shard(directory.path() / "a.bin", write_text(directory, "a.txt", "one"), bytes());
  std::string old = read_file(path);
  old[8] = 1;
  write_bytes(path, old);
  EXPECT_NE(message_of([&] { read_shard(path, bytes()); }).find("without end marks of documents, 2 is known (make it again"), std::string::npos);
}

TEST(Shard, IsCompleteOrAbsent) {
  const TempDir directory;
  const Path lines = write_text(directory, "a.jsonl", "{\"text\": \"a\"}\nnot json\n");
  EXPECT_THROW(write_shard(directory.path() / "a.bin", lines, bytes(), true), Error);
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(directory.path()), {}), 1);
}

// A row's steps between its cuts: the tokens, and the last target behind them.
Strings documents_of(const Batch& batch, int64_t row) {
  const int64_t T = batch.tokens.dim(1);
  const int32_t *tokens = batch.tokens.data<int32_t>() + row * T,
                *targets = batch.targets.data<int32_t>() + row * T;
  std::vector<int64_t> ends = batch.cuts[row];
  ends.push_back(batch.lengths.empty() ? T : batch.lengths[row]);
  Strings documents;
  int64_t column = 0;
  for (const int64_t end : ends) {
    std::string document;
    for (; column < end; column++) {
      EXPECT_TRUE(column + 1 == end || targets[column] == tokens[column + 1]);
      document += static_cast<char>(tokens[column]);
    }
    documents.push_back(document + static_cast<char>(targets[end - 1]));
  }
  for (; column < T; column++) EXPECT_EQ(targets[column], kIgnore);
  return documents;
}

// In front of a document of raw bytes and behind it.
const std::string kMark(1, '\0');

// The batches of the loader that held all ids of an epoch in memory, documents one behind the other.
TEST(BatchLoader, StreamsAsItAlwaysDid) {
  Strings documents;
  for (int i = 0; i < 60; i++) {
    const char* who[] = {"a cat", "a dog", "an owl"};
    documents.push_back(format("%s sat; %s ran.", who[i % 3], who[i % 3]));
  }
  const Corpus corpus = corpus_of(documents);
  BatchLoader loader(corpus, 2, 16, 3);
  uint32_t checksum = 0;
  // three epochs and a half
  for (int i = 0; i < 150; i++) {
    const Batch batch = loader.next();
    for (const Tensor& t : {batch.tokens, batch.targets}) {
      checksum = crc32(checksum, {static_cast<const char*>(t.raw()), t.bytes()});
    }
    EXPECT_TRUE(batch.cuts.empty() && batch.lengths.empty() && batch.goes_on.empty());
    EXPECT_EQ(batch.steps, 32);
  }
  EXPECT_EQ(checksum, 0x051aaad2u);
}

TEST(BatchLoader, PacksEachDocumentOnceAnEpoch) {
  constexpr int64_t T = 32;
  const Strings documents = some_documents(200);
  Strings expected;
  int64_t steps = 0;
  for (const std::string& text : documents) {
    const std::string document = kMark + text + kMark;
    for (size_t at = 0; at + 1 < document.size(); at += T) expected.push_back(document.substr(at, T + 1));
    steps += static_cast<int64_t>(text.size()) + 1;
  }
  std::sort(expected.begin(), expected.end());
  const Corpus corpus = corpus_of(documents);
  BatchLoader loader(corpus, 1, T, 3, Packing::documents);
  Strings before;
  for (int epoch = 0; epoch < 3; epoch++) {
    Strings seen;
    int64_t left = steps, rows = 0;
    for (; left > 0; rows++) {
      const Batch batch = loader.next();
      for (const std::string& document : documents_of(batch, 0)) seen.push_back(document);
      left -= batch.steps;
    }
    // by first fit, little is padding
    EXPECT_LT(rows * T, steps * 110 / 100);
    EXPECT_NE(seen, before);
    before = seen;
    std::sort(seen.begin(), seen.end());
    EXPECT_EQ(seen, expected);
  }
}

TEST(BatchLoader, CarriesDocumentsFromBatchToBatch) {
  constexpr int64_t B = 3, T = 16;
  const Strings documents = some_documents(50);
  const Corpus corpus = corpus_of(documents);
  BatchLoader loader(corpus, B, T, 3, Packing::carried);
  Strings open(B), seen;
  for (int i = 0; i < 200; i++) {
    const Batch batch = loader.next();
    EXPECT_TRUE(batch.lengths.empty());
    for (int64_t b = 0; b < B; b++) {
      const Strings parts = documents_of(batch, b);
      for (size_t p = 0; p < parts.size(); p++) {
        if (p > 0 || !batch.goes_on[b]) {
          if (!open[b].empty()) seen.push_back(open[b]);
          open[b] = parts[p];
        } else {
          // its first token is the last target of the batch before
          EXPECT_EQ(open[b].back(), parts[p][0]);
          open[b] += parts[p].substr(1);
        }
      }
    }
  }
  // whole ones, all as often as the others but for those of the last epoch
  std::map<std::string, int> times;
  for (const std::string& document : documents) times[kMark + document + kMark] = 0;
  for (const std::string& document : seen) {
    ASSERT_TRUE(times.contains(document)) << document;
    times[document]++;
  }
  int least = 1000, most = 0;
  for (const auto& [document, n] : times) {
    least = std::min(least, n);
    most = std::max(most, n);
  }
  EXPECT_GE(least, 5);
  EXPECT_LE(most - least, 2);
}

// A teacher that knows ten positions is asked about no other one, and still about every token.
TEST(BatchLoader, BeginsLongDocumentsAnew) {
  constexpr int64_t kLongest = 10;
  const Corpus corpus = corpus_of(some_documents(50));
  BatchLoader loader(corpus, 3, 16, 3, Packing::carried, kLongest), whole(corpus, 3, 16, 3, Packing::carried);
  std::vector<int64_t> position(3);
  for (int i = 0; i < 100; i++) {
    const Batch batch = loader.next(), expected = whole.next();
    EXPECT_TRUE(same_bits(batch.tokens, expected.tokens) && same_bits(batch.targets, expected.targets));
    for (int64_t b = 0; b < 3; b++) {
      for (int64_t column = 0; column < 16; column++) {
        const auto& cuts = batch.cuts[b];
        const bool fresh = column == 0 ? !batch.goes_on[b] : std::find(cuts.begin(), cuts.end(), column) != cuts.end();
        position[b] = fresh ? 0 : position[b] + 1;
        ASSERT_LT(position[b], kLongest);
      }
    }
  }
}

TEST(BatchLoader, GoesOnFromAPosition) {
  const Corpus one = corpus_of(some_documents(40)), two = two_sources();
  for (const Corpus* corpus : {&one, &two}) {
    for (const Packing packing : {Packing::stream, Packing::documents, Packing::carried}) {
      BatchLoader straight(*corpus, 2, 16, 3, packing), sought(*corpus, 2, 16, 3, packing);
      for (int i = 0; i < 150; i++) {
        if (i % 10 == 3) {
          BatchLoader fresh(*corpus, 2, 16, 3, packing);
          fresh.seek(straight.position());
          sought.seek(straight.position() + 20);
          sought.seek(straight.position());
          const Batch a = straight.next(), b = fresh.next(), c = sought.next();
          for (const Batch* other : {&b, &c}) {
            EXPECT_TRUE(same_bits(a.tokens, other->tokens) && same_bits(a.targets, other->targets));
            EXPECT_EQ(a.cuts, other->cuts);
            EXPECT_EQ(a.lengths, other->lengths);
            EXPECT_EQ(a.goes_on, other->goes_on);
          }
        } else {
          straight.next();
        }
      }
    }
  }
}

TEST(BatchLoader, DealsRowsByWeight) {
  const Corpus corpus = two_sources();
  BatchLoader loader(corpus, 1, 100, 3);
  int of_a = 0;
  for (int i = 1; i <= 300; i++) {
    const Batch batch = loader.next();
    const int32_t* tokens = batch.tokens.data<int32_t>();
    const bool a = std::count(tokens, tokens + 100, 'a') > 0, b = std::count(tokens, tokens + 100, 'b') > 0;
    EXPECT_NE(a, b);
    of_a += a;
    EXPECT_NEAR(of_a, i * 2 / 3.0, 1);
  }
  // carried, by steps
  BatchLoader carried(corpus, 4, 16, 3, Packing::carried);
  int64_t steps[2] = {};
  std::vector<char> mark(4);
  for (int i = 0; i < 300; i++) {
    const Batch batch = carried.next();
    for (int64_t j = 0; j < batch.tokens.numel(); j++) {
      const int32_t id = batch.tokens.data<int32_t>()[j];
      if (id == 'a' || id == 'b') mark[j / 16] = static_cast<char>(id);
      steps[mark[j / 16] == 'b']++;
    }
  }
  EXPECT_NEAR(static_cast<double>(steps[0]) / static_cast<double>(steps[1]), 2, 0.1);
}

TEST(BatchLoader, NeedsSomethingToPredict) {
  EXPECT_THROW(BatchLoader(Corpus(), 1, 4, 0), Error);
  const Corpus marks = {{Source({0, 0, 0}, {0, 1, 2, 3}, 0, {0, 0})}};
  for (const Packing packing : {Packing::stream, Packing::documents, Packing::carried})
    EXPECT_THROW(BatchLoader(marks, 1, 4, 0, packing), Error);
  const Corpus two = two_sources();
  BatchLoader carried(two, 2, 4, 0, Packing::carried);
  EXPECT_THROW(carried.seek(3), Error);
}

// Padding counts nowhere: the loss of rows with a document each is the mean over the documents' predictions.
TEST(BatchLoader, PaddingIsNoPartOfTheLoss) {
  Config config = tiny_config(MixerKind::supra);
  config.vocab = 256;
  const auto decoder = make_decoder(config);
  decoder->init_weights(3);
  NoGrad off;
  // none fits beside another
  const Corpus corpus = corpus_of({std::string(20, 'a'), "bcdefghijklmnopqr", "xyzxyzxyzxyzxyzxyz"});
  BatchLoader loader(corpus, 3, 24, 3, Packing::documents);
  const Batch batch = loader.next();
  ASSERT_EQ(batch.lengths.size(), 3u);
  const double mean =
      decoder->loss(decoder->hidden(batch.tokens, nullptr, batch.lengths), batch.targets, 0).value().item();
  double sum = 0;
  for (int64_t b = 0; b < 3; b++) {
    const std::string document = documents_of(batch, b)[0];
    const std::vector<int32_t> ids(document.begin(), document.end());
    const int64_t n = static_cast<int64_t>(ids.size()) - 1;
    const Tensor tokens = Tensor::of(std::vector<int32_t>(ids.begin(), ids.end() - 1), {1, n});
    const Tensor targets = Tensor::of(std::vector<int32_t>(ids.begin() + 1, ids.end()), {1, n});
    sum += static_cast<double>(n) * decoder->loss(decoder->hidden(tokens), targets, 0).value().item();
  }
  EXPECT_EQ(batch.steps, 21 + 18 + 19);
  EXPECT_NEAR(mean, sum / static_cast<double>(batch.steps), 1e-6 * mean);
}

}  // namespace
}  // namespace supra
