#include "supra/formats/weights/safetensors.h"

#include "tests/fuzz_formats.h"
#include "tests/support.h"

// Tensors written and read, as they are and converted. Files that lie are formats_test's.

namespace supra {
namespace {

class SafetensorsTest : public testing::Test {
 protected:
  Path path(const char* name) const { return directory_.path() / name; }

  TempDir directory_;
};

bool is_aligned(const Tensor& t) { return reinterpret_cast<uintptr_t>(t.raw()) % size_of(t.dtype()) == 0; }

TEST_F(SafetensorsTest, EveryTypeAndShapeComesBack) {
  NamedTensors tensors;
  for (const Dtype dtype : {Dtype::u8, Dtype::i8, Dtype::i16, Dtype::bf16, Dtype::f16, Dtype::i32, Dtype::f32,
                            Dtype::i64, Dtype::f64}) {
    for (const Shape& shape : {Shape{}, Shape{0}, Shape{3, 0, 2}, Shape{1}, Shape{3, 5}, Shape{70001}}) {
      const Tensor t = Tensor::zeros(shape, dtype);
      for (size_t i = 0; i < t.bytes(); i++) static_cast<uint8_t*>(t.raw())[i] = static_cast<uint8_t>(i * 7);
      tensors.emplace_back(name(dtype) + to_string(shape), t);
    }
  }
  write_safetensors(path("all.safetensors"), tensors, {{"note", "a \"quoted\" text"}});
  const auto file = open_safetensors(path("all.safetensors"));
  EXPECT_EQ(file->tensors().size(), tensors.size());
  for (const auto& [name, tensor] : tensors) {
    const Tensor back = file->get(name);
    EXPECT_TRUE(same_bits(back, tensor)) << name;
    EXPECT_TRUE(is_aligned(back)) << name;
  }
}

TEST_F(SafetensorsTest, DataBeginsOnACacheLineWhateverTheHeader) {
  for (size_t n = 0; n < 70; n++) {
    write_safetensors(path("x.safetensors"), {{std::string(n, 'n'), Tensor::zeros({1})}});
    const std::string text = read_file(path("x.safetensors"));
    uint64_t header;
    memcpy(&header, text.data(), sizeof header);
    EXPECT_EQ((header + sizeof header) % 64, 0u);
    EXPECT_EQ(text.size(), header + sizeof header + 4);
  }
}

TEST_F(SafetensorsTest, NamesAreWrittenOnce) {
  const Tensor t = Tensor::zeros({1});
  EXPECT_THROW(write_safetensors(path("x.safetensors"), {{"a", t}, {"b", t}, {"a", t}}), Error);
  EXPECT_THROW(write_safetensors(path("x.safetensors"), {{"__metadata__", t}}), Error);
  EXPECT_FALSE(std::filesystem::exists(path("x.safetensors")));
  const std::string odd = "\"\\\n\xc3\xa9";
  write_safetensors(path("x.safetensors"), {{odd, t}});
  EXPECT_TRUE(same_bits(open_safetensors(path("x.safetensors"))->get(odd), t));
}

TEST_F(SafetensorsTest, AllAreConvertedWhereATypeIsGiven) {
  const Tensor large = random_normal({70001}, 1), small = random_normal({3, 5}, 2, Dtype::f64);
  for (const Dtype dtype : {Dtype::f16, Dtype::bf16, Dtype::f32}) {
    write_safetensors(path("x.safetensors"), {{"large", large}, {"small", small}}, {}, dtype);
    const auto file = open_safetensors(path("x.safetensors"));
    EXPECT_TRUE(same_bits(file->get("large"), large.to(dtype)));
    EXPECT_TRUE(same_bits(file->get("small"), small.to(dtype)));
  }
}

static void write_foreign(const Path& path, const std::string& header, const std::string& data) {
  const uint64_t length = header.size();
  write_bytes(path, std::string(reinterpret_cast<const char*>(&length), sizeof length) + header + data);
}

// A foreign file may put a tensor where the processor cannot read its type.
TEST_F(SafetensorsTest, MisalignedTensorsAreCopied) {
  const std::string header = R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},)"
                             R"("b":{"dtype":"F32","shape":[2],"data_offsets":[1,9]}})";
  const float values[] = {1.5f, -2};
  write_foreign(path("x.safetensors"), header, "!" + std::string(reinterpret_cast<const char*>(values), sizeof values));
  const Tensor b = open_safetensors(path("x.safetensors"))->get("b");
  EXPECT_TRUE(is_aligned(b));
  EXPECT_TRUE(same_bits(b, Tensor::of<float>({1.5f, -2})));
}

TEST_F(SafetensorsTest, MoreDimensionsThanAShapeHoldsAreRefusedByName) {
  const auto header = [](const char* shape) {
    return std::string(R"({"a":{"dtype":"U8","shape":[)") + shape + R"(],"data_offsets":[0,1]}})";
  };
  write_foreign(path("x.safetensors"), header("1,1,1,1,1,1,1,1"), "!");
  EXPECT_EQ(open_safetensors(path("x.safetensors"))->get("a").rank(), 8);
  write_foreign(path("x.safetensors"), header("1,1,1,1,1,1,1,1,1"), "!");
  const std::string complaint = complaint_of([&] { open_safetensors(path("x.safetensors")); });
  EXPECT_NE(complaint.find("tensor a has 9 dimensions, 8 at most"), std::string::npos) << complaint;
}

TEST_F(SafetensorsTest, ATensorIsAskedForByShapeAndConverted) {
  const Tensor w = random_normal({3, 5}, 1, Dtype::bf16);
  write_safetensors(path("x.safetensors"), {{"w", w}});
  const auto file = open_safetensors(path("x.safetensors"));
  EXPECT_EQ(file->get("w").dtype(), Dtype::bf16);
  EXPECT_TRUE(same_bits(file->get("w", {3, 5}, Dtype::f32), w.to(Dtype::f32)));
  const std::string other = complaint_of([&] { file->get("w", {5, 3}, Dtype::f32); });
  EXPECT_EQ(other, path("x.safetensors").string() + ": tensor w is (3, 5), the model needs (5, 3)");
  const std::string absent = complaint_of([&] { file->get("v", {5, 3}, Dtype::f32); });
  EXPECT_TRUE(absent.starts_with(path("x.safetensors").string() + ": tensor v is missing")) << absent;
}

// The mapping outlives the reader.
TEST_F(SafetensorsTest, TensorsOutliveTheirReader) {
  const Tensor w = random_normal({3, 5}, 1);
  write_safetensors(path("x.safetensors"), {{"w", w}});
  const Tensor back = open_safetensors(path("x.safetensors"))->get("w");
  std::filesystem::remove(path("x.safetensors"));
  EXPECT_TRUE(same_bits(back, w));
}

// Shards are as large as they may be; one of them is the file itself.
TEST_F(SafetensorsTest, LargeModelsAreCutIntoShards) {
  NamedTensors tensors;
  for (int i = 0; i < 7; i++) tensors.emplace_back("w" + std::to_string(i), random_normal({10, 10}, 1));
  write_sharded_safetensors(directory_.path(), tensors, Dtype::f32, 1200);
  EXPECT_TRUE(std::filesystem::exists(path("model-00003-of-00003.safetensors")));
  EXPECT_FALSE(std::filesystem::exists(path("model-00004-of-00003.safetensors")));
  const Json index = Json::load(path("model.safetensors.index.json"));
  EXPECT_EQ(index.at("metadata").at("total_size").as_integer("total_size"), 2800);
  EXPECT_EQ(index.at("weight_map").text("w3"), "model-00002-of-00003.safetensors");
  const auto file = open_weights(path("model.safetensors.index.json"));
  EXPECT_EQ(file->tensors().size(), 7u);
  for (const auto& [name, tensor] : tensors) EXPECT_TRUE(same_bits(file->get(name), tensor));

  TempDir whole;
  write_sharded_safetensors(whole.path(), tensors, Dtype::f16, 1400);
  EXPECT_EQ(open_weights(whole.path() / "model.safetensors")->get("w6").dtype(), Dtype::f16);
}

TEST(CheckFinite, NamesTensorFileAndPlace) {
  for (const Dtype dtype : {Dtype::f64, Dtype::f32, Dtype::f16, Dtype::bf16}) {
    for (const float bad : {NAN, INFINITY, -INFINITY}) {
      for (const size_t at : {0, 4095, 4096, 9999}) {
        std::vector<float> values(10000, -3.5f);
        const auto complaint = [&] {
          return complaint_of([&] { check_finite(Tensor::of(values).to(dtype), "w", "f"); });
        };
        EXPECT_EQ(complaint(), "");
        values[at] = bad;
        EXPECT_TRUE(complaint().starts_with("f: tensor w holds ")) << complaint();
        const std::string place = " at element " + std::to_string(at) + " of ";
        EXPECT_NE(complaint().find(place), std::string::npos) << complaint();
      }
    }
  }
  EXPECT_EQ(complaint_of([] { check_finite(Tensor::full({3}, -1, Dtype::i32), "w", "f"); }), "");
  EXPECT_EQ(complaint_of([] { check_finite(Tensor::zeros({0}), "w", "f"); }), "");
}

}  // namespace
}  // namespace supra
