#include "supra/formats/weights/gguf.h"

#include "tests/fuzz_formats.h"
#include "tests/small_files.h"
#include "tests/support.h"

// GGUF: keys, tensors of every block type, and files that lie.

namespace supra {
namespace {

class GgufTest : public testing::Test {
 protected:
  Path write(const std::string& bytes) const {
    write_bytes(path_, bytes);
    return path_;
  }
  std::string complaint(const std::string& bytes) const {
    write_bytes(path_, bytes);
    return complaint_of([&] { read_all(Gguf(path_)); });
  }

  TempDir directory_;
  Path path_ = directory_.path() / "x.gguf";
};

TEST_F(GgufTest, KeysAreReadAsTheTypeThatIsAskedFor) {
  GgufBytes b = gguf_head(0, 9, 2);
  b.key("name", 8, std::string("tiny")).key("layers", 4, uint32_t{3}).key("shift", 1, int8_t{-3});
  b.key("eps", 6, 1e-5f).key("tied", 7, uint8_t{1}).key("huge", 10, ~uint64_t{0});
  b.put(std::string("pieces")).put<uint32_t>(9).put<uint32_t>(8).put<uint64_t>(3);
  b.put(std::string("a")).put(std::string("")).put(std::string("\xc3\xa9"));
  b.put(std::string("scores")).put<uint32_t>(9).put<uint32_t>(6).put<uint64_t>(2).put(0.5f).put(-2.f);
  b.put(std::string("kinds"))
      .put<uint32_t>(9)
      .put<uint32_t>(5)
      .put<uint64_t>(2)
      .put(int32_t{6})
      .put(int32_t{-1});
  const Gguf file(write(b.text));
  EXPECT_EQ(file.version(), 2);
  EXPECT_EQ(file.text("name"), "tiny");
  EXPECT_EQ(file.integer("layers"), 3);
  EXPECT_EQ(file.integer("shift"), -3);
  EXPECT_EQ(file.number("layers"), 3);
  EXPECT_EQ(file.number("eps"), static_cast<double>(1e-5f));
  EXPECT_TRUE(file.flag("tied"));
  EXPECT_EQ(file.integer("absent", 7), 7);
  EXPECT_EQ(file.text("absent", "x"), "x");
  EXPECT_EQ(file.texts("pieces"), (std::vector<std::string_view>{"a", "", "\xc3\xa9"}));
  EXPECT_EQ(file.numbers("scores"), (std::vector<double>{0.5, -2}));
  EXPECT_EQ(file.integers("kinds"), (std::vector<int64_t>{6, -1}));
  EXPECT_EQ(file.numbers("kinds"), (std::vector<double>{6, -1}));
  const std::string p = path_.string();
  EXPECT_EQ(complaint_of([&] { file.integer("eps"); }), p + ": key eps is f32, integer is needed");
  EXPECT_EQ(complaint_of([&] { file.text("pieces"); }),
            p + ": key pieces is an array of string, string is needed");
  EXPECT_EQ(complaint_of([&] { file.integers("scores"); }),
            p + ": key scores is an array of f32, an array of integer is needed");
  EXPECT_EQ(complaint_of([&] { file.integer("absent"); }), p + ": key absent is missing");
  EXPECT_EQ(complaint_of([&] { file.integer("huge"); }), p + ": key huge is 18446744073709551615, too large");
}

TEST_F(GgufTest, FloatsAreMappedAndDimensionsTurnedRound) {
  const Tensor w = random_normal({2, 3}, 1), h = w.to(Dtype::f16);
  GgufBytes b = gguf_head(2, 0);
  b.tensor("w", {3, 2}, 0, 0).tensor("h", {3, 2}, 1, 32);
  std::string data(static_cast<const char*>(w.raw()), w.bytes());
  data.resize(32);
  data.append(static_cast<const char*>(h.raw()), h.bytes());
  const Gguf file(write(b.with_data(data)));
  EXPECT_TRUE(same_bits(file.get("w"), w));
  EXPECT_TRUE(same_bits(file.get("h"), h));
}

// A block whose bytes are the type's head, then i * 37 + 11 for byte i; and what x[0], x[17], x[40], x[130]
// and x[255] (where there are as many) must be by gguf-py's dequantize().
struct BlockCase {
  const char* name;
  uint32_t id;
  size_t elements, bytes;
  std::vector<size_t> halves;  // where the f16 factors stand
  std::vector<float> expected;
};

const BlockCase kBlocks[] = {
    {"Q8_0",
     8,
     32,
     34,
     {0},
     {21.25f, 22, 22.75f, 23.5f, 24.25f, -15, -14.25f, -13.5f, -12.75f, -12, 12.75f, 13.5f}},
    {"Q4_0", 2, 32, 18, {0}, {-0.75f, 0, 0.75f, -2, -1.75f, -1, -0.25f, -0.25f, -0.25f, 0, -1.25f, -0.5f}},
    {"Q4_1",
     3,
     32,
     20,
     {0, 2},
     {3.625f, 0.375f, 1.125f, 1.125f, 1.125f, 3.375f, 0.125f, 2.875f, 2.875f, 2.875f, 3.125f, -0.125f}},
    {"Q5_0", 6, 32, 22, {0}, {2.25f, -1, 3.75f, -1.5f, -1.5f, -2, -1.25f, 0, -3.75f, 0.25f, 1.75f, 2.5f}},
    {"Q5_1",
     7,
     32,
     24,
     {0, 2},
     {4.625f, 5.375f, 6.125f, 7.375f, 3.375f, 4.375f, 5.125f, 1.125f, 1.125f, 1.125f, 0.125f, 0.875f}},
    {"Q4_K", 12, 256, 144, {0, 2}, {91.625f,  114.875f, 14.125f, 37.375f,  60.625f,  15,       15,
                                    16,       16,       16,      99.875f,  130.625f, 161.375f, 28.125f,
                                    18.25f,   18.25f,   18.25f,  18.25f,   21.75f,   40.5f,    69.75f,
                                    99,       128.25f,  183.75f, 183.75f,  183.75f,  183.75f,  183.75f,
                                    185.875f, 26.625f,  63.375f, 100.125f, 8.875f,   8.875f,   10.375f,
                                    10.375f,  10.375f,  83.875f, 107.125f, 6.375f}},
    {"Q5_K", 13, 256, 176, {0, 2}, {215.625f, 114.875f, 138.125f, 37.375f,  184.625f, 25,      9,
                                    10,       26,       26,       99.875f,  294.5f,   325.5f,  28.125f,
                                    53.25f,   109.25f,  109.25f,  109.25f,  56.75f,   196.5f,  225.75f,
                                    255,      284.25f,  93.75f,   93.75f,   93.75f,   93.75f,  93.75f,
                                    382,      222.625f, 259.5f,   296,      23.875f,  23.875f, 25.375f,
                                    25.375f,  25.375f,  83.875f,  231.125f, 6.375f}},
    {"Q6_K", 14, 256, 210, {208}, {-357.75f, -185.5f, 198.75f, 112,    -92,     52.5f,   152.25f, -464,
                                   -420.5f,  -145,    332.5f,  332.5f, -434,    -961,    -674,    -674,
                                   -387.5f,  -387.5f, -200,    91,     -74.75f, 60,      -18,     -488,
                                   -442.25f, -152.5f, 220.5f,  686,    -877,    544.5f,  378,     378,
                                   211.5f,   211.5f,  199.75f, 42.5f,  42.5f,   -132.5f, 39.75f,  128}},
};

TEST_F(GgufTest, BlocksAreWhatGgmlSaysTheyAre) {
  for (const BlockCase& c : kBlocks) {
    std::string block;
    for (size_t i = 0; i < c.bytes; i++) block += static_cast<char>(i * 37 + 11);
    for (size_t k = 0; k < c.halves.size(); k++) {
      const uint16_t factor = f32_to_f16(k == 0 ? 0.25f : -0.125f);
      memcpy(&block[c.halves[k]], &factor, 2);
    }
    // rows of three blocks: with four bits, two that make a pair and one left over
    const std::string row = block + block + block;
    GgufBytes b = gguf_head(1, 0);
    b.tensor("w", {3 * c.elements, 2}, c.id, 0);
    const Tensor w = Gguf(write(b.with_data(row + row))).get("w");
    EXPECT_EQ(w.shape(), (Shape{2, static_cast<int64_t>(3 * c.elements)}));
    const Tensor x = w.to(Dtype::f32);
    for (size_t copy = 0; copy < 6; copy++) {
      for (size_t k = 0; k < c.expected.size(); k++) {
        const size_t i = k * 7 % c.elements;
        EXPECT_EQ(x.data<float>()[copy * c.elements + i], c.expected[k]) << c.name << " element " << i;
      }
    }
  }
}

TEST_F(GgufTest, WhatCannotBeReadIsListedAndRefusedByName) {
  GgufBytes b = gguf_head(2, 0);
  b.tensor("a", {256, 2}, 10, 0).tensor("b", {8}, 999, 0);
  const Gguf file(write(b.with_data("")));
  EXPECT_EQ(file.tensors()[0].stored, "Q2_K");
  EXPECT_NE(complaint_of([&] { file.get("a"); }).find("tensor a is of type Q2_K"), std::string::npos);
  EXPECT_NE(complaint_of([&] { file.get("b"); }).find("tensor b is of type type 999"), std::string::npos);
}

TEST_F(GgufTest, FilesThatLieAreRefused) {
  const auto said = [&](const std::string& bytes, const std::string& part) {
    const std::string all = complaint(bytes);
    EXPECT_TRUE(all.starts_with(path_.string())) << all;
    EXPECT_NE(all.find(part), std::string::npos) << part << " is not in: " << all;
  };
  const uint64_t many = uint64_t{1} << 63;
  said("GGUX", "does not begin with GGUF");
  said(gguf_head(0, 0, 1).text, "is GGUF version 1");
  said(gguf_head(0, 0, 3 << 24).text, "big-endian");
  said(gguf_head(many, 0).text, "is cut short");
  said(gguf_head(0, many).text, "is cut short");
  said(gguf_head(0, 1).put(many).text, "a key needs 9223372036854775808 bytes");
  said(gguf_head(0, 1).key("k", 13, 0).text, "key k is of type 13");
  said(gguf_head(0, 1).put(std::string("k")).put<uint32_t>(9).put<uint32_t>(9).put(many).text,
       "key k is an array of type 9");
  said(gguf_head(0, 1).put(std::string("k")).put<uint32_t>(9).put<uint32_t>(10).put(many).text,
       "key k has 9223372036854775808 items");
  said(gguf_head(0, 1).put(std::string("k")).put<uint32_t>(9).put<uint32_t>(8).put(many).text,
       "k needs 8 bytes");
  said(gguf_head(0, 2).key("k", 7, '\1').key("k", 7, '\1').text, "there are two keys k");
  said(gguf_head(0, 1).key("general.alignment", 4, uint32_t{0}).text, "general.alignment is 0");
  said(gguf_head(1, 0).tensor("w", {1, 1, 1, 1, 1}, 0, 0).text, "tensor w has 5 dimensions");
  said(gguf_head(1, 0).tensor("w", {many}, 0, 0).text, "too large");
  said(gguf_head(1, 0).tensor("w", {many >> 2, 8}, 0, 0).text, "too large");
  said(gguf_head(1, 0).tensor("w", {4}, 0, 8).with_data(std::string(64, 'x')),
       "not a multiple of the alignment 32");
  said(gguf_head(1, 0).tensor("w", {4}, 0, 32).with_data(std::string(40, 'x')), "the data has 40");
  said(gguf_head(1, 0).tensor("w", {4}, 0, many).with_data(std::string(40, 'x')), "the data has 40");
  said(gguf_head(1, 0).tensor("w", {32}, 8, 0).with_data(std::string(34, 'x')),
       "is not made of rows of blocks of 32");
  said(gguf_head(1, 0).tensor("w", {48, 2}, 8, 0).with_data(std::string(102, 'x')),
       "is not made of rows of blocks of 32");
  said(gguf_head(2, 0).tensor("w", {1}, 0, 0).tensor("w", {1}, 0, 0).with_data("1234"),
       "there are two tensors w");
}

TEST_F(GgufTest, GoldenFilesSurviveAbuse) {
  for (const char* name :
       {"gguf_f32", "gguf_f16", "gguf_q8_0", "gguf_q4_0", "gguf_q4_1", "gguf_qwen2_q8_0"}) {
    const Path golden = shared_dir() / "golden/hf" / name / "model.gguf";
    SKIP_WITHOUT(golden);
    const std::string text = read_file(golden);
    EXPECT_EQ(complaint(text), "");
    expect_survives_abuse(
        text, [&](const std::string& bytes) { return complaint(bytes); }, path_);
  }
}

}  // namespace
}  // namespace supra
