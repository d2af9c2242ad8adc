#include "supra/formats/weights/checksums.h"

#include <gtest/gtest.h>

#include "supra/formats/parse/crc32.h"
#include "supra/formats/model_source.h"
#include "tests/supra/embed/embed_model.h"
#include "tests/fuzz_formats.h"
#include "tools/command.h"

// Checksums of packed models: every flipped bit is found, and models without any are read as before.

namespace supra {
namespace {

struct Inspected {
  int code;
  std::string text;
};

Inspected inspect(const Path& model, std::vector<std::string> words) {
  words.insert(words.begin(), model.string());
  Args args("inspect", "", words);
  testing::internal::CaptureStdout();
  const int code = run_inspect(args);
  return {code, testing::internal::GetCapturedStdout()};
}

class Checksums : public testing::Test {
 protected:
  Checksums() : path_(directory_.path() / "model.supra") {
    write_tiny_model(path_);
    text_ = read_file(path_);
    memcpy(&header_, text_.data(), sizeof header_);
  }

  // What check_weights() says of the file with one bit flipped.
  std::string complaint(size_t byte, int bit) {
    text_[byte] ^= static_cast<char>(1 << bit);
    const std::string said = complaint_of([&] {
      check_weights({path_, text_.data(), text_.size(), nullptr});
    });
    text_[byte] ^= static_cast<char>(1 << bit);
    return said;
  }

  // The same model as earlier versions wrote it.
  void write_without_checksums(const Path& path) const {
    const auto reader = open_safetensors(path_);
    NamedTensors tensors;
    for (const TensorInfo& info : reader->tensors()) tensors.emplace_back(info.name, reader->get(info.name));
    write_safetensors(path, tensors, {{"format", "supra packed"}});
  }

  TempDir directory_;
  Path path_;
  std::string text_;
  uint64_t header_ = 0;
};

TEST_F(Checksums, EveryFlippedBitIsFound) {
  EXPECT_EQ(complaint_of([&] { check_weights(MappedFile(path_)); }), "");
  const size_t data = sizeof header_ + header_;
  Philox random(4);
  for (int i = 0; i < 200; i++) {
    const int bit = static_cast<int>(random.below(8));
    const size_t in_header = random.below(data), in_data = data + random.below(text_.size() - data);
    EXPECT_NE(complaint(in_header, bit), "") << in_header << " " << bit;
    EXPECT_NE(complaint(in_data, bit).find(" is damaged, "), std::string::npos) << in_data << " " << bit;
  }
  for (size_t at = 0; at < 120; at++) EXPECT_NE(complaint(at, static_cast<int>(at % 8)), "") << at;
  EXPECT_NE(complaint(text_.size() - 1, 7), "");
}

TEST_F(Checksums, InspectNamesWhatIsDamaged) {
  const Inspected good = inspect(path_, {"--check"});
  EXPECT_EQ(good.code, 0);
  for (const char* part : {"pass  header", "pass  tok_embeddings.weight", "pass  file:config.json"})
    EXPECT_NE(good.text.find(part), std::string::npos) << part << " is not in " << good.text;
  EXPECT_EQ(good.text.find("FAIL"), std::string::npos);

  const Tensor damaged = open_safetensors(path_)->get("layers.1.attention.out_proj.weight");
  const size_t at =
      static_cast<size_t>(std::search(text_.begin(), text_.end(), static_cast<const char*>(damaged.raw()),
                                      static_cast<const char*>(damaged.raw()) + damaged.bytes()) -
                          text_.begin());
  text_[at + 5] ^= 1;
  write_bytes(path_, text_);
  // opening looks at no checksum
  EXPECT_EQ(inspect(path_, {}).code, 0);
  const Inspected bad = inspect(path_, {"--check"});
  EXPECT_EQ(bad.code, 1);
  EXPECT_NE(bad.text.find("FAIL  layers.1.attention.out_proj.weight"), std::string::npos) << bad.text;
  EXPECT_EQ(bad.text.find("FAIL"), bad.text.rfind("FAIL"));
  const Inspected report = inspect(path_, {"--check", "--json"});
  EXPECT_EQ(report.code, 1);
  size_t failed = 0;
  const Json json = Json::parse(report.text, "stdout");
  for (const Json& part : json.at("check").as_array()) failed += !part.flag("pass");
  EXPECT_EQ(failed, 1u);
}

TEST_F(Checksums, AModelWithoutThemOpensAndSaysSo) {
  const Path old = directory_.path() / "old.supra";
  write_without_checksums(old);
  EXPECT_EQ(open_model(old).stored.size(), open_model(path_).stored.size());
  const Inspected said = inspect(old, {"--check"});
  EXPECT_EQ(said.code, 0);
  EXPECT_NE(said.text.find("checksums   none"), std::string::npos) << said.text;
  EXPECT_NE(complaint_of([&] { check_weights(MappedFile(old)); }).find("has no checksums"),
            std::string::npos);
}

TEST(Crc32, IsThatOfZlibInPiecesOfAnySize) {
  EXPECT_EQ(crc32(0, ""), 0u);
  EXPECT_EQ(crc32(0, "123456789"), 0xcbf43926u);
  EXPECT_EQ(crc32(0, "The quick brown fox jumps over the lazy dog"), 0x414fa339u);
  const std::string text = "The quick brown fox jumps over the lazy dog";
  for (size_t n = 0; n <= text.size(); n++)
    EXPECT_EQ(crc32(crc32(0, text.substr(0, n)), text.substr(n)), 0x414fa339u) << n;
}

}  // namespace
}  // namespace supra
