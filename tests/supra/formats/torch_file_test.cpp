#include "supra/formats/weights/torch_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <chrono>

#include "supra/formats/parse/crc32.h"
#include "supra/formats/model_source.h"
#include "supra/formats/parse/pickle.h"
#include "supra/formats/weights/weight_files.h"
#include "supra/formats/parse/zip.h"
#include "tests/fuzz_formats.h"
#include "tests/supra/formats/peak_memory.h"
#include "tests/support.h"

// PyTorch's files: what was written comes back, views of storages, pickles that lie, and a checkpoint of 31
// GB.

namespace supra {
namespace {

const std::string kMemo = "q\1";

std::string bytes_of(int32_t number) { return {reinterpret_cast<const char*>(&number), sizeof number}; }
std::string text(const std::string& s) { return "X" + bytes_of(static_cast<int32_t>(s.size())) + s; }
std::string integer(int32_t number) { return "J" + bytes_of(number); }
std::string tuple(const std::vector<int32_t>& numbers) {
  std::string all = "(";
  for (const int32_t number : numbers) all += integer(number);
  return all + "t";
}
// A tensor of f32 that lies in data/0.
std::string tensor(int32_t offset, const std::vector<int32_t>& sizes, const std::vector<int32_t>& strides,
                   const std::string& storage = "ctorch\nFloatStorage\n", const std::string& key = "0") {
  return "ctorch._utils\n_rebuild_tensor_v2\n((" + text("storage") + storage + text(key) + text("cpu") +
         integer(24) + "tQ" + integer(offset) + tuple(sizes) + tuple(strides) + "\x89" +
         "ccollections\nOrderedDict\n)RtR";
}
std::string dict(const std::string& items) { return "\x80\x02}(" + items + "u."; }

class TorchFileTest : public testing::Test {
 protected:
  std::string archive(const std::vector<std::pair<std::string, std::string>>& records) const {
    std::string all;
    ZipWriter zip([&](std::string_view bytes) { all += bytes; });
    for (const auto& [name, bytes] : records) {
      zip.begin(name, bytes.size(), crc32(0, bytes));
      all += bytes;
    }
    zip.finish();
    return all;
  }
  // A file with this pickle, and the numbers 0..23 in storage 0.
  std::string file_of(const std::string& pickle) const {
    std::string storage(96, '\0');
    for (int i = 0; i < 24; i++) {
      const float x = static_cast<float>(i);
      memcpy(&storage[static_cast<size_t>(i) * 4], &x, 4);
    }
    return archive({{"a/data.pkl", pickle}, {"a/data/0", storage}});
  }
  std::unique_ptr<WeightReader> open(const std::string& pickle) const {
    write_bytes(path_, file_of(pickle));
    return open_weights(path_);
  }
  void said(const std::string& bytes, const std::string& part) const {
    const std::string all = fuzz_weights(bytes, path_);
    EXPECT_TRUE(all.starts_with(path_.string())) << all;
    EXPECT_NE(all.find(part), std::string::npos) << part << " is not in: " << all;
  }
  void said_of(const std::string& pickle, const std::string& part) const { said(file_of(pickle), part); }

  TempDir directory_;
  Path path_ = directory_.path() / "x.bin";
};

TEST_F(TorchFileTest, WhatIsWrittenComesBackAligned) {
  NamedTensors tensors;
  for (const Dtype dtype : kTorchStorages) {
    for (const Shape& shape : {Shape{}, Shape{0}, Shape{3, 5}, Shape{70001}})
      tensors.emplace_back(name(dtype) + to_string(shape), random_normal(shape, 1).to(dtype));
  }
  for (const bool extra : {false, true}) {
    write_torch_file(path_, tensors, extra ? TorchExtra{{"epoch", int64_t{1}}, {"name", "x"}} : TorchExtra{});
    EXPECT_STREQ(weight_format(path_), "PyTorch");
    const auto file = open_weights(path_);
    EXPECT_EQ(file->tensors().size(), tensors.size());
    for (const auto& [name, t] : tensors) {
      EXPECT_TRUE(same_bits(file->get(name), t)) << name;
      EXPECT_TRUE(t.numel() == 0 || reinterpret_cast<uintptr_t>(file->get(name).raw()) % 64 == 0) << name;
    }
  }
  const Tensor w = random_normal({70001}, 2);
  write_torch_file(path_, {{"w", w}}, {}, Dtype::bf16);
  EXPECT_TRUE(same_bits(open_weights(path_)->get("w"), w.to(Dtype::bf16)));
  EXPECT_THROW(write_torch_file(path_, {{"w", w}, {"w", w}}), Error);
  EXPECT_THROW(write_torch_file(path_, {{"w", Tensor::zeros({2, 32}, Dtype::q8_0)}}), Error);
}

TEST_F(TorchFileTest, ViewsAreGathered) {
  const auto file = open(dict(text("turned") + tensor(1, {3, 4}, {1, 3}) + text("columns") +
                              tensor(0, {2, 3}, {6, 2}) + text("tail") + tensor(20, {4}, {1}) + text("one") +
                              tensor(23, {}, {}) + text("cube") + tensor(0, {2, 3, 4}, {4, 8, 1})));
  EXPECT_TRUE(
      same_bits(file->get("turned"), Tensor::of<float>({1, 4, 7, 10, 2, 5, 8, 11, 3, 6, 9, 12}, {3, 4})));
  EXPECT_TRUE(same_bits(file->get("columns"), Tensor::of<float>({0, 2, 4, 6, 8, 10}, {2, 3})));
  EXPECT_TRUE(same_bits(file->get("tail"), Tensor::of<float>({20, 21, 22, 23})));
  EXPECT_EQ(file->get("one").item(), 23);
  EXPECT_EQ(file->get("cube").data<float>()[12 + 4], 12);
}

TEST_F(TorchFileTest, DictsInsideAreJoinedAndOtherValuesPassedOver) {
  const std::string inner = "}(" + text("w") + tensor(0, {2}, {1}) + text("shape") + tuple({1, 2}) + "u";
  const auto plain = open(dict(text("a") + inner + text("step") + integer(3) + text("none") + "N"));
  ASSERT_EQ(plain->tensors().size(), 1u);
  EXPECT_EQ(plain->tensors()[0].name, "a.w");
  const auto nested = open(dict(text("optimizer") + inner + text("state_dict") + inner));
  ASSERT_EQ(nested->tensors().size(), 1u);
  EXPECT_EQ(nested->tensors()[0].name, "w");
}

TEST_F(TorchFileTest, PicklesThatLieAreRefused) {
  said_of(dict(text("w") + "cos\nsystem\n(" + text("true") + "tR"), "calls for os.system");
  said_of(dict(text("w") + "cnumpy.core.multiarray\nscalar\n)R"), "calls for numpy.core.multiarray.scalar");
  said_of("\x80\x02i.", "a/data.pkl: unknown opcode 0x69 at byte 2");
  said_of("\x80\x02}", "an opcode needs 1 bytes from byte 3 on");
  said_of("\x80\x02X\xff\xff\xff\x7fz", "BINUNICODE needs 2147483647 bytes");
  said_of("\x80\x02\x85.", "the stack is empty at byte 2");
  said_of("\x80\x02(\x85.", "the stack is empty");
  said_of("\x80\x02u.", "there is no mark");
  said_of("\x80\x02}(Nu.", "items without a list or dict");
  said_of("\x80\x02h\5.", "memo 5 is empty");
  said_of("\x80\x02Nr\xff\xff\xff\x7f.", "memo 2147483647 is beyond the pickle's size");
  said_of("\x80\x02N.", "holds no dict of tensors");
  said_of(
      "\x80\x02"
      "c"
      "torch",
      "a name without an end");
  const std::string unfit = "does not fit its record";
  said_of(dict(text("w") + tensor(0, {25}, {1})), unfit);
  said_of(dict(text("w") + tensor(-1, {2}, {1})), unfit);
  said_of(dict(text("w") + tensor(21, {2}, {3})), unfit);
  said_of(dict(text("w") + tensor(0, {2}, {-1})), unfit);
  said_of(dict(text("w") + tensor(0, {-2}, {1})), unfit);
  said_of(dict(text("w") + tensor(0, {1 << 30}, {0})), unfit);
  said_of(dict(text("w") + tensor(0, {1 << 30, 1 << 30, 1 << 30}, {0, 0, 0})), unfit);
  said_of(dict(text("w") + tensor(0, {2, 2}, {1})), "has 2 sizes and 1 strides");
  said_of(dict(text("w") + tensor(0, {2}, {1}, "ctorch\nFloatStorage\n", "../0")),
          "record a/data/../0, which is missing");
  said_of(dict(text("w") + tensor(0, {2}, {1}, "ctorch\nSize\n")), "which is not a storage");
  said_of(dict(text("w") + tensor(0, {2}, {1}, "N")), "is not described as in PyTorch's files");
  const std::string flags = file_of(dict(text("w") + tensor(0, {2}, {1}, "ctorch\nBoolStorage\n")));
  write_bytes(path_, flags);
  EXPECT_NE(complaint_of([&] { open_weights(path_)->get("w"); }).find("tensor w is of type bool"),
            std::string::npos);
}

// Values that are shared or hold themselves cost what their bytes cost, and nothing recurses.
TEST_F(TorchFileTest, PicklesThatBlowUpDoNot) {
  std::string deep = "\x80\x02";
  for (int i = 0; i < 1000000; i++) deep += "]";
  for (int i = 0; i < 999999; i++) deep += "a";
  said_of(deep + ".", "holds no dict of tensors");
  std::string doubling = "}q" + std::string(1, '\0');
  for (char i = 1; i < 100; i++) {
    const std::string before = std::string("h") + static_cast<char>(i - 1);
    doubling += "}q" + std::string(1, i) + "(" + text("a") + before + text("b") + before + "u";
  }
  said_of("\x80\x02" + doubling + ".", "is too long");
  said_of("\x80\x02}" + kMemo + "(" + text("a") + "h\1u.", "occurs in two places");
  std::string calls = "\x80\x02(" + std::string(100000, 'N') + "t" + kMemo;
  for (int i = 0; i < 100000; i++) calls += "ctorch\nSize\nh\1R";
  said_of(calls + ".", "holds no dict of tensors");
}

// What pickle.h and the README promise, of the opcodes that make the most of each byte.
TEST_F(TorchFileTest, APickleTakesASmallMultipleOfItsSizeOfMemory) {
  constexpr int kBytes = 4 << 20;
  const auto repeated = [](const std::string& opcodes) {
    std::string bytes = "\x80\x02N";
    while (bytes.size() < kBytes) bytes += opcodes;
    return bytes;
  };
  for (const char* opcodes : {"N", "]", "}", ")", "\x88", "(", "\x85", "N\x86", "NNN\x87", "Q", "\x94", "]\x94", "K\1", "]Na"}) {
    const std::string bytes = repeated(opcodes);
    expect_takes_at_most(30, bytes, [&] { Pickle(bytes, "x"); });
  }
  // a memo as large as the pickle, and one container of all the rest
  const std::string memo = "\x80\x02Nr" + bytes_of(kBytes), rest(kBytes, 'N');
  for (const std::string& bytes : {memo + "](" + rest + "e.", memo + "(" + rest + "t."})
    expect_takes_at_most(30, bytes, [&] { Pickle(bytes, "x"); });
  write_bytes(path_, file_of(memo + "}(" + rest + "u."));
  expect_takes_at_most(35, rest, [&] { EXPECT_EQ(open_weights(path_)->tensors().size(), 0u); });
}

TEST_F(TorchFileTest, NamesForOneTensorAreBounded) {
  const auto names = [](int n) {
    std::string items = text("w") + tensor(0, {2}, {1}) + kMemo;
    for (int i = 0; i < n; i++) items += text(format("n%d", i)) + "h\1";
    return dict(items);
  };
  EXPECT_EQ(open(names(1000))->tensors().size(), 1001u);
  said_of(names(20000), "names more than");
}

TEST_F(TorchFileTest, ArchivesThatLieAreRefused) {
  const std::string good = file_of(dict(text("w") + tensor(0, {2}, {1})));
  EXPECT_EQ(fuzz_weights(good, path_), "");
  const size_t central = good.find("PK\1\2");
  const auto changed = [&](size_t place, char byte) {
    std::string bad = good;
    bad[place] = byte;
    return bad;
  };
  said(changed(central + 10, 8), "record a/data.pkl is compressed or encrypted (method 8)");
  said(changed(central + 8, 1), "is compressed or encrypted");
  said(changed(central, 'x'), "a record of the zip directory does not begin at byte");
  said(changed(30, 'b'), "record a/data.pkl has another name");
  // a tensor's record is looked at when the tensor is asked for
  write_bytes(path_, changed(good.find("a/data/0"), 'b'));
  EXPECT_NE(complaint_of([&] { open_weights(path_)->get("w"); }).find("record a/data/0 has another name"),
            std::string::npos);
  said(good.substr(0, good.size() - 1), "is cut short");
  said(good.substr(0, central), "has no zip directory");
  said(archive({{"a/x", ""}}), "without data.pkl");
  said(archive({{"a/x", ""}, {"a/x", ""}}), "there are two records a/x");
  said(archive({{"a/data.pkl", dict("")}, {"a/byteorder", "big"}}), "big-endian");
  said(archive({{"a/data.pkl", std::string((16 << 20) + 1, ' ')}}), "save the weights alone");
}

TEST_F(TorchFileTest, GoldenStoragesHoldTheSameNumbers) {
  const Path golden = shared_dir() / "golden/hf";
  SKIP_WITHOUT(golden);
  const auto expect_same = [&](const char* file, const char* other) {
    const auto a = open_weights(golden / file), b = open_weights(golden / other);
    EXPECT_EQ(a->tensors().size(), b->tensors().size()) << file;
    for (const TensorInfo& info : b->tensors())
      EXPECT_TRUE(same_bits(a->get(info.name), b->get(info.name))) << file << " " << info.name;
  };
  expect_same("bin_f32/pytorch_model.bin", "llama_gqa/model.safetensors");
  expect_same("bin_strided/pytorch_model.bin", "llama_gqa/model.safetensors");
  expect_same("bin_bf16/pytorch_model.bin", "st_bf16/model.safetensors");
  expect_same("bin_sharded/pytorch_model.bin.index.json", "st_f16/model.safetensors");
  expect_same("bin_tied_shared/pytorch_model.bin", "st_tied_both_stored/model.safetensors");
  const std::string old = complaint_of([&] { open_weights(golden / "bin_legacy/pytorch_model.bin"); });
  EXPECT_NE(old.find("PyTorch's format before version 1.6"), std::string::npos) << old;
}

TEST_F(TorchFileTest, GoldenFilesSurviveAbuse) {
  for (const char* name : {"bin_f32", "bin_bf16", "bin_strided", "bin_tied_shared", "bin_legacy"}) {
    const Path golden = shared_dir() / "golden/hf" / name / "pytorch_model.bin";
    SKIP_WITHOUT(golden);
    expect_survives_abuse(
        read_file(golden), [&](const std::string& bytes) { return fuzz_weights(bytes, path_); }, path_);
  }
}

// TRI-ML/mistral-supra as it is released: one file of 31.2 GB in f32. Its zeros are a hole of a sparse file.
TEST_F(TorchFileTest, MistralSupraOpensAtFullSize) {
  std::vector<TensorInfo> infos;
  const auto add = [&](const std::string& name, const Shape& shape) {
    infos.push_back({"model." + name, shape, Dtype::f32, ""});
  };
  const int64_t C = 4096, F = 14336, O = 32000, q = 32 * 128, k = 8 * 128;
  add("tok_embeddings.weight", {O, C});
  for (int i = 0; i < 32; i++) {
    const std::string layer = "layers." + std::to_string(i) + ".", attention = layer + "attention.";
    add(attention + "in_proj.weight", {q + 2 * k, C});
    add(attention + "out_proj.weight", {C, q});
    add(attention + "_totrain_embed.weight", {q, q});
    add(attention + "_totrain_embed.bias", {q});
    add(attention + "_totrain_embed_kv.weight", {k, k});
    add(attention + "_totrain_embed_kv.bias", {k});
    add(layer + "feed_forward.w12.weight", {2 * F, C});
    add(layer + "feed_forward.w3.weight", {C, F});
    add(layer + "attention_norm.weight", {C});
    add(layer + "ffn_norm.weight", {C});
  }
  add("norm.weight", {C});
  add("output.weight", {O, C});

  const int fd = ::open(path_.c_str(), O_WRONLY | O_CREAT, 0600);
  ASSERT_GE(fd, 0);
  bool written = true;
  ZipWriter zip([&](std::string_view bytes) {
    written = written && ::write(fd, bytes.data(), bytes.size()) == static_cast<ssize_t>(bytes.size());
  });
  const std::string pickle = torch_pickle(infos, {});
  zip.begin("pytorch_model/data.pkl", pickle.size(), crc32(0, pickle));
  written = written && ::write(fd, pickle.data(), pickle.size()) == static_cast<ssize_t>(pickle.size());
  for (size_t i = 0; i < infos.size(); i++) {
    const off_t bytes = static_cast<off_t>(numel(infos[i].shape)) * 4;
    zip.begin("pytorch_model/data/" + std::to_string(i), static_cast<uint64_t>(bytes), 0);
    const float first = static_cast<float>(i + 1);
    written = written && ::write(fd, &first, 4) == 4 && lseek(fd, bytes - 4, SEEK_CUR) >= 0;
  }
  zip.finish();
  struct stat status {};
  fstat(fd, &status);
  close(fd);
  if (!written || status.st_blocks * 512 > off_t{1} << 30)
    GTEST_SKIP() << "the disk takes no sparse file of 31 GB";
  EXPECT_NEAR(static_cast<double>(status.st_size), 31.2e9, 0.1e9);

  const size_t before = resident_bytes();
  const auto start = std::chrono::steady_clock::now();
  const auto file = open_weights(path_);
  ASSERT_EQ(file->tensors().size(), infos.size());
  for (const size_t i : {size_t{0}, size_t{7}, size_t{200}, infos.size() - 1}) {
    const Tensor w = file->get(infos[i].name, infos[i].shape, Dtype::f32);
    EXPECT_EQ(w.data<float>()[0], static_cast<float>(i + 1));
    EXPECT_EQ(w.data<float>()[w.numel() - 1], 0);
  }
  // as its config.json describes it: every tensor has its place, none is copied
  write_bytes(path_.parent_path() / "config.json", R"({"architectures": ["OpenLMForCausalLM"], "model_type": "openlm",
      "dim": 4096, "intermediate_dim_ffn": 14336, "n_layers": 32, "n_heads": 32, "n_heads_kv": 8, "vocab_size": 32000,
      "norm_eps": 1e-5, "seq_len": 2048, "weight_tying": false, "apply_qk_norm": false, "qk_head_dim": 128,
      "v_head_dim": 128, "norm_type": "rms_norm", "attn_name": "linear_attn", "positional_embedding_type": "rotary",
      "ffn_type": "swiglu", "use_decay": true, "use_retnet_slopes": false, "decay_start": null})");
  const ModelSource source = open_model(path_);
  EXPECT_TRUE(source.unexpected.empty());
  EXPECT_EQ(source.weights->tensors().size(), infos.size());
  EXPECT_EQ(source.weights->get("layers.31.feed_forward.w12.weight").dim(0), 2 * F);
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
  EXPECT_LT(seconds.count(), 0.5);
  EXPECT_LT(resident_bytes() - std::min(before, resident_bytes()), size_t{16} << 20);
  std::printf("%zu tensors of %.1f GB in %.4f s, %.1f MB resident\n", infos.size(),
              static_cast<double>(status.st_size) * 1e-9, seconds.count(),
              static_cast<double>(resident_bytes() - before) * 1e-6);
}

}  // namespace
}  // namespace supra
