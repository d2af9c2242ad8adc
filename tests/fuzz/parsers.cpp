#include "tests/fuzz/parsers.h"

#include <unistd.h>

#include "supra/embed/state_blob.h"
#include "supra/evaluation/tasks.h"
#include "supra/formats/checkpoint.h"
#include "supra/formats/parse/crc32.h"
#include "supra/formats/export/hf_export.h"
#include "supra/formats/weights/packed_model.h"
#include "supra/formats/weights/torch_file.h"
#include "supra/formats/export/transformers_export.h"
#include "supra/formats/parse/zip.h"
#include "supra/inference/session.h"
#include "supra/supra.h"
#include "supra/tokenizers/gguf_vocabulary.h"
#include "supra/tokenizers/protobuf.h"
#include "supra/tokenizers/regex.h"
#include "supra/tokenizers/shard.h"
#include "supra/tokenizers/tokenizer_json.h"
#include "supra/training/checkpoint.h"
#include "supra/training/loader.h"
#include "tests/fuzz_formats.h"
#include "tests/small_files.h"
#include "tests/tiny_model.h"

namespace supra {
namespace {

// A folder for those that read files, in memory where the system has such a place; it goes with the process
// that made it, not with those that forked from it.
class Scratch {
 public:
  Scratch() {
    const Path memory = "/dev/shm";
    std::string pattern =
        (exists(memory) ? memory : std::filesystem::temp_directory_path()) / "supra-fuzz-XXXXXX";
    CHECK(mkdtemp(pattern.data()), "cannot make the directory %s", pattern.c_str());
    path_ = pattern;
  }
  ~Scratch() {
    std::error_code error;
    if (getpid() == owner_) remove_all(path_, error);
  }
  const Path& path() const { return path_; }

 private:
  Path path_;
  pid_t owner_ = getpid();
};

Path scratch(const std::string& name) {
  static const Scratch folder;
  const Path path = folder.path() / name;
  create_directories(path.parent_path());
  return path;
}

// What `write` makes of a path, as bytes.
template <class F>
std::string bytes_of_file(F write) {
  const Path path = scratch("seed");
  write(path);
  return read_file(path);
}

// The files that were put together with a zero byte between.
std::vector<std::string_view> cut(std::string_view bytes, size_t files) {
  std::vector<std::string_view> parts;
  while (parts.size() + 1 < files) {
    const size_t size = std::min(bytes.find('\0'), bytes.size());
    parts.push_back(bytes.substr(0, size));
    bytes.remove_prefix(std::min(size + 1, bytes.size()));
  }
  parts.push_back(bytes);
  return parts;
}

std::string join(const std::string& first, const std::string& second) { return first + '\0' + second; }

Config smallest_config(MixerKind mixer) {
  Config c = tiny_config(mixer);
  c.vocab = 5;
  c.width = c.mlp_width = 4;
  c.heads = 2;
  c.kv_heads = 1;
  c.head_dim = c.key_dim = c.value_dim = 2;
  return c;
}

const std::shared_ptr<Decoder>& smallest_model() {
  static const auto model = [] {
    auto decoder = make_decoder(smallest_config(MixerKind::supra));
    decoder->init_weights(1);
    return decoder;
  }();
  return model;
}

NamedTensors some_tensors() {
  return {{"a", Tensor::full({2, 3}, 1)},
          {"b.c", Tensor::zeros({4}, Dtype::bf16)},
          {"d", Tensor::zeros({2}, Dtype::i64)},
          {"e", Tensor::zeros({1, 32}, Dtype::q8_0)}};
}

// Whoever reads a tokenizer also encodes with it.
void use(const Tokenizer& tokenizer) {
  for (const bool parse_special : {false, true}) {
    const std::string text = "a b  ab<s> \xff\u20ac\u0301A1234'll\n\n <0x0A> aaaa" + tokenizer.piece(0);
    const auto ids = tokenizer.encode(text, {.add_special = true, .parse_special = parse_special});
    for (const int32_t id : ids) CHECK(id < tokenizer.size(), "the id %d is not in the vocabulary", id);
    tokenizer.decode(ids, true);
  }
}

// A model that opens also computes.
std::string complaint_of_model(const Path& path) {
  return complaint_of([&] {
    const Model model = load_model(path, "", Weights::stored);
    if (model.decoder->parameter_count() > 1 << 20) return;
    Session session(*model.decoder);
    session.feed(std::vector<int32_t>{0, 0});
    session.step(std::vector<int32_t>{0});
  });
}

std::string json(std::string_view bytes) { return fuzz_json(bytes); }

std::string safetensors(std::string_view bytes) { return fuzz_safetensors(bytes, scratch("x.safetensors")); }

std::string shards(std::string_view bytes) {
  const Path index = scratch("shards/x.safetensors.index.json");
  if (const Path shard = index.parent_path() / "a.safetensors"; !exists(shard))
    write_safetensors(shard, some_tensors());
  return fuzz_weights(bytes, index);
}

std::string torch_file(std::string_view bytes) { return fuzz_weights(bytes, scratch("x.bin")); }

// The pickle in such a file, with no archive in the way.
std::string pickle(std::string_view bytes) {
  std::string all;
  ZipWriter zip([&](std::string_view part) { all += part; });
  for (const auto& [name, record] :
       {std::pair("x/data.pkl", std::string(bytes)), {"x/data/0", std::string(96, '\1')}}) {
    zip.begin(name, record.size(), crc32(0, record));
    all += record;
  }
  zip.finish();
  return torch_file(all);
}

std::string gguf(std::string_view bytes) { return fuzz_weights(bytes, scratch("x.gguf")); }

std::string gguf_model(std::string_view bytes) {
  write_bytes(scratch("gguf/model.gguf"), bytes);
  return complaint_of_model(scratch("gguf/model.gguf"));
}

std::string gguf_vocabulary(std::string_view bytes) {
  const Path path = scratch("vocabulary.gguf");
  write_bytes(path, bytes);
  return complaint_of([&] {
    const auto tokenizer = make_gguf_tokenizer(path);
    if (!tokenizer) return;
    use(*tokenizer);
    copy_tokenizer(*tokenizer, scratch("copy/x").parent_path());
  });
}

std::string config(std::string_view bytes) { return fuzz_config(bytes); }

std::string model_folder(std::string_view bytes) {
  const auto files = cut(bytes, 2);
  write_bytes(scratch("model/config.json"), files[0]);
  write_bytes(scratch("model/model.safetensors"), files[1]);
  return complaint_of_model(scratch("model/config.json").parent_path());
}

std::string llama2c(std::string_view bytes) {
  write_bytes(scratch("llama2c/model.bin"), bytes);
  return complaint_of_model(scratch("llama2c/model.bin"));
}

std::string llama2c_tokenizer(std::string_view bytes) {
  return complaint_of([&] { use(*make_llama2c_tokenizer(bytes, "x.bin")); });
}

std::string protobuf(std::string_view bytes) {
  return complaint_of([&] {
    const std::string where = "x.model";
    std::vector<ProtoReader> messages = {ProtoReader(bytes, where)};
    while (!messages.empty()) {
      ProtoReader message = messages.back();
      messages.pop_back();
      // any field may be a message
      complaint_of([&] {
        while (message.next()) {
          complaint_of([&] { message.integer(); });
          complaint_of([&] { message.real(); });
          complaint_of([&] { messages.push_back(message.message()); });
        }
      });
    }
  });
}

std::string sentencepiece(std::string_view bytes) {
  return complaint_of([&] { use(*make_sentencepiece_tokenizer(bytes, "x.model")); });
}

std::string tokenizer_json(std::string_view bytes) {
  const Path path = scratch("tokenizer/tokenizer.json");
  return complaint_of([&] {
    use(*make_json_tokenizer(MappedFile(path, bytes.data(), bytes.size(), nullptr), Folder(path.parent_path())));
  });
}

// An expression and a text.
std::string regex(std::string_view bytes) {
  const auto files = cut(bytes, 2);
  return complaint_of([&] {
    size_t size = 0;
    Regex(files[0], "x").each_part(files[1], [&](std::string_view part, bool) { size += part.size(); });
    CHECK(size == files[1].size(), "the parts are not the whole text");
  });
}

std::string vocabulary_and_merges(std::string_view bytes) {
  const auto files = cut(bytes, 2);
  write_bytes(scratch("vocab.json"), files[0]);
  write_bytes(scratch("merges.txt"), files[1]);
  return complaint_of([&] { use(*make_gpt2_tokenizer(MappedFile(scratch("vocab.json")), MappedFile(scratch("merges.txt")))); });
}

// Not a file, but people's bytes all the same: a text. Every tokenizer gives it back.
std::string text(std::string_view bytes) {
  static const auto sentencepiece =
      make_sentencepiece_tokenizer(model_file(small_vocabulary(false), {.byte_fallback = true}), "x.model");
  static const auto llama2c = make_llama2c_tokenizer(bin_file(small_vocabulary(true)), "x.bin");
  return complaint_of([&] {
    for (const Tokenizer* tokenizer : {sentencepiece.get(), llama2c.get()}) {
      const std::string back = tokenizer->decode(tokenizer->encode(bytes));
      CHECK(back == bytes, "%s: a text comes back as another one", tokenizer->kind());
    }
  });
}

// Tasks of `supra eval`: a line an item, or a csv.
std::string task_lines(std::string_view bytes) {
  write_bytes(scratch("task.jsonl"), bytes);
  return complaint_of([&] { read_tasks(scratch("task.jsonl"), ""); });
}

std::string task_csv(std::string_view bytes) {
  write_bytes(scratch("tasks/x_test.csv"), bytes);
  return complaint_of([&] { read_tasks(scratch("tasks/x_test.csv"), "0"); });
}

// The checksums are made right, for they would keep everything else from being seen.
std::string training_shard(std::string_view bytes) {
  constexpr size_t kHeader = 56, kChecksum = 52;
  std::string shard(bytes);
  if (bytes.size() >= kHeader) {
    const std::string checksum = raw(crc32(crc32(0, bytes.substr(kHeader)), bytes.substr(0, kChecksum)));
    shard.replace(kChecksum, checksum.size(), checksum);
  }
  write_bytes(scratch("x.bin"), shard);
  return complaint_of([&] {
    const Corpus corpus = read_corpus({scratch("x.bin")}, *make_byte_tokenizer(), "");
    for (const Packing packing : {Packing::stream, Packing::documents, Packing::carried}) {
      BatchLoader loader(corpus, 2, 8, 1, packing);
      for (int i = 0; i < 3; i++) loader.next();
    }
  });
}

std::string small_shard() {
  return bytes_of_file([](const Path& path) {
    ShardWriter shard(path, *make_byte_tokenizer());
    for (const int length : {1, 2, 20}) shard.add({std::vector<int32_t>(length, 'a'), length, 0});
    shard.finish();
  });
}

std::string session_state(std::string_view bytes) {
  write_bytes(scratch("state"), bytes);
  return complaint_of([&] {
    Session session(*smallest_model());
    session.load(scratch("state"));
    session.step(std::vector<int32_t>{0});
  });
}

std::string training_checkpoint(std::string_view bytes) {
  static const Model model = [] {
    Model m;
    m.decoder = smallest_model();
    write_model(m, scratch("checkpoint/x").parent_path());
    return m;
  }();
  const auto files = cut(bytes, 2);
  write_bytes(scratch("checkpoint/training.json"), files[0]);
  write_bytes(scratch("checkpoint/optimizer.safetensors"), files[1]);
  return complaint_of([&] {
    std::vector<Trained> parameters;
    Model copy = model;
    copy.decoder->visit([&](const std::string& name, Var& parameter) {
      parameters.push_back({name, parameter});
    });
    Optimizer optimizer(parameters, {});
    load_checkpoint(scratch("checkpoint/x").parent_path(), copy, optimizer);
  });
}

// A matrix or a vector of each kind of block.
std::string small_gguf() {
  GgufBytes b = gguf_head(5, 4);
  b.key("general.alignment", 4, uint32_t{32}).key("name", 8, std::string("tiny")).key("tied", 7, uint8_t{1});
  b.put(std::string("pieces")).put<uint32_t>(9).put<uint32_t>(8).put<uint64_t>(2);
  b.put(std::string("a")).put(std::string("bc"));
  b.tensor("f32", {4, 2}, 0, 0).tensor("f16", {4}, 1, 32).tensor("q8_0", {32, 1}, 8, 64);
  b.tensor("q5_1", {32, 1}, 7, 128).tensor("q6_K", {256, 1}, 14, 160);
  return b.with_data(std::string(160 + 210, '\1'));
}

std::string small_gguf_model(const std::string& architecture) {
  using Sizes = std::vector<uint64_t>;
  const std::pair<const char*, Sizes> tensors[] = {{"token_embd.weight", {4, 5}},
                                                   {"output_norm.weight", {4}},
                                                   {"output.weight", {4, 5}},
                                                   {"blk.0.attn_norm.weight", {4}},
                                                   {"blk.0.ffn_norm.weight", {4}},
                                                   {"blk.0.attn_q.weight", {4, 4}},
                                                   {"blk.0.attn_k.weight", {4, 2}},
                                                   {"blk.0.attn_v.weight", {4, 2}},
                                                   {"blk.0.attn_output.weight", {4, 4}},
                                                   {"blk.0.ffn_gate.weight", {4, 32}},
                                                   {"blk.0.ffn_up.weight", {4, 32}},
                                                   {"blk.0.ffn_down.weight", {32, 4}}};
  GgufBytes b = gguf_head(std::size(tensors), 11);
  b.key("general.architecture", 8, architecture);
  const std::pair<const char*, uint32_t> sizes[] = {
      {"embedding_length", 4},        {"block_count", 1},          {"attention.head_count", 2},
      {"attention.head_count_kv", 1}, {"attention.key_length", 2}, {"feed_forward_length", 32},
      {"context_length", 8}};
  for (const auto& [key, size] : sizes) b.key(architecture + "." + key, 4, size);
  b.key(architecture + ".attention.layer_norm_rms_epsilon", 6, 1e-5f).key(architecture + ".rope.freq_base", 6, 1e4f);
  b.key(architecture + ".rope.scaling.type", 8, std::string("yarn"));
  uint64_t offset = 0;
  for (const auto& [name, shape] : tensors) {
    b.tensor(name, shape, 0, offset);
    offset += (shape[0] * (shape.size() == 2 ? shape[1] : 1) * 4 + 31) / 32 * 32;
  }
  return b.with_data(std::string(offset, '\1'));
}

std::string small_gguf_vocabulary(const char* model) {
  const bool pieces = model == std::string("llama");
  GgufBytes b = gguf_head(0, 7);
  b.key("tokenizer.ggml.model", 8, std::string(model)).key("tokenizer.ggml.pre", 8, std::string("llama-bpe"));
  b.key("tokenizer.ggml.bos_token_id", 4, uint32_t{1});
  const auto list = [&](const char* name, uint32_t type, size_t count) {
    b.put(std::string("tokenizer.ggml.") + name).put<uint32_t>(9).put(type).put<uint64_t>(count);
  };
  const std::vector<std::string> texts = {"<unk>", "<s>", pieces ? "\u2581" : "\u0120", "a", "b", "ab"};
  list("tokens", 8, texts.size());
  for (const std::string& text : texts) b.put(text);
  list("token_type", 5, texts.size());
  for (size_t i = 0; i < texts.size(); i++) b.put<int32_t>(i == 0 ? kUnknown : i == 1 ? kControl : kNormal);
  list("scores", 6, texts.size());
  for (size_t i = 0; i < texts.size(); i++) b.put(static_cast<float>(-1.0 * i));
  list("merges", 8, 1);
  return b.put(std::string("a b")).text;
}

// With a piece that a text has and its normal form does not: a space becomes U+2581.
std::vector<TestPiece> user_defined_vocabulary() {
  std::vector<TestPiece> pieces = three_marks(false);
  append(pieces, {{"a"}, {" \u20ac", 0, kUserDefined}});
  return pieces;
}

// "A" becomes "a": the root's children lie at 0, those of "A" at 65 ^ 1.
std::string small_charsmap() {
  std::vector<uint32_t> units(66);
  units['A'] = 'A' | 1 << 8 | 1 << 10;
  units['A' ^ 1] = 1u << 31;
  std::string bytes = raw(static_cast<uint32_t>(units.size() * 4));
  for (const uint32_t unit : units) bytes += raw(unit);
  return bytes + "a" + '\0';
}

std::vector<std::string> model_folders() {
  std::vector<std::string> all;
  for (const MixerKind mixer : {MixerKind::supra, MixerKind::softmax, MixerKind::window}) {
    const Config shape = smallest_config(mixer);
    const auto decoder = make_decoder(shape);
    decoder->init_weights(1);
    NamedTensors weights;
    decoder->visit([&](const std::string& name, Var& parameter) {
      weights.push_back({name, parameter.value()});
    });
    std::string config = write_openlm_config(shape).dump();
    if (mixer == MixerKind::softmax) {
      config = write_hf_config(shape, Dtype::f32).dump();
      weights = hf_weights(shape, weights);
    }
    if (mixer == MixerKind::window) config = write_transformers_config(shape, Dtype::f32).dump();
    all.push_back(join(config, bytes_of_file([&](const Path& path) { write_safetensors(path, weights); })));
  }
  return all;
}

std::string small_training_checkpoint() {
  NamedTensors moments;
  smallest_model()->visit([&](const std::string& name, Var& parameter) {
    if (moments.size() < 4) {
      moments.push_back({"m." + name, parameter.value()});
      moments.push_back({"v." + name, parameter.value()});
    }
  });
  return join(R"({"step": 3, "tokens": 96, "position": 96, "seconds": 0.5, "valid_nll": -1, "made_by": "a test",
                  "seed": 7, "stage": 0, "stage_begin": 0, "stage_steps": 3, "stage_nll": -1, "mean_loss": 2, "mean_norm": 1,
                  "batch_tokens": 32, "sequence": 16, "corpus_tokens": 1000, "packing": "stream"})",
              bytes_of_file([&](const Path& path) { write_safetensors(path, moments); }));
}

constexpr const char* kVocabulary = R"({"a": 0, "b": 1, "ab": 2, "\u0120": 3, "\u0120a": 4, "<s>": 5})";

std::string small_tokenizer_json(bool bytes) {
  const std::string level = R"({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true})";
  const std::string space = R"({"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": "\u2581"},
    {"type": "Replace", "pattern": {"String": " "}, "content": "\u2581"}]})";
  return R"({"version": "1.0", "added_tokens": [{"id": 5, "content": "<s>", "special": true, "normalized": false}],
    "normalizer": )" +
         (bytes ? R"({"type": "NFC"})" : space) + R"(, "pre_tokenizer": )" + (bytes ? level : "null") +
         R"(, "post_processor": {"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}},
    {"Sequence": {"id": "A", "type_id": 0}}]}, "model": {"type": "BPE", "unk_token": "a", "fuse_unk": true, "vocab": )" +
         kVocabulary + R"(, "merges": ["a b", ["\u0120", "a"]]}})";
}

std::string small_unigram_json() {
  return R"({"added_tokens": [{"id": 3, "content": " ab", "lstrip": true, "rstrip": true, "single_word": true, "normalized": true}],
    "normalizer": {"type": "Sequence", "normalizers": [{"type": "Precompiled", "precompiled_charsmap": ""}, {"type": "NFKD"}, {"type": "StripAccents"},
      {"type": "Lowercase"}, {"type": "Strip"}, {"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": " "}]},
    "pre_tokenizer": {"type": "Sequence", "pretokenizers": [{"type": "Digits"}, {"type": "Punctuation", "behavior": "MergedWithNext"},
      {"type": "Metaspace", "prepend_scheme": "first", "split": true}]},
    "post_processor": {"type": "RobertaProcessing", "cls": ["a", 1], "sep": ["b", 2]},
    "decoder": {"type": "Sequence", "decoders": [{"type": "ByteFallback"}, {"type": "Metaspace"}, {"type": "Fuse"}, {"type": "Strip", "content": " ", "start": 1}]},
    "model": {"type": "Unigram", "unk_id": 0, "byte_fallback": true, "vocab": [["<unk>", 0], ["\u2581a", -1.5], ["b", -2]]}})";
}

supra_session* host_session() {
  static supra_session* const session = [] {
    Config config = smallest_config(MixerKind::supra);
    config.vocab = 256;
    const auto decoder = make_decoder(config);
    decoder->init_weights(1);
    NamedTensors weights;
    decoder->visit([&](const std::string& name, Var& parameter) { weights.push_back({name, parameter.value()}); });
    write_packed(scratch("host"), config, weights, {{"tok.bytes", ""}}, {});
    return supra_start(supra_open(scratch("host").c_str(), nullptr, nullptr), nullptr);
  }();
  return session;
}

std::string saved_by_host() {
  std::string state(1 << 16, '\0');
  size_t written = 0;
  supra_save(host_session(), state.data(), state.size(), &written, nullptr);
  return state.substr(0, written);
}

// What supra_save wrote, as it comes and with its checksum made right. What is taken is gone on with.
std::string host_state(std::string_view bytes) {
  supra_session* const session = host_session();
  supra_error error;
  int code = supra_load(session, bytes.data(), bytes.size(), &error);
  if (code == SUPRA_BAD_STATE && bytes.size() >= sizeof(uint64_t)) {
    std::string state(bytes);
    seal_blob(state.data(), state.size());
    code = supra_load(session, state.data(), state.size(), &error);
  }
  if (code == SUPRA_BAD_STATE) return error.message;
  const auto expect = [&](bool condition) {
    if (!condition) throw std::logic_error(error.message);
  };
  expect(code == SUPRA_OK);
  uint64_t random = 1;
  int32_t id = 0;
  const supra_sampling sampling = {sizeof sampling, 0.9f, 40, 0.9f, 0.01f, 1.1f, &id, 1};
  char text[16];
  // logits may be NaN or absent
  const int sampled = supra_sample(session, &sampling, &random, &id, &error);
  expect(sampled == SUPRA_OK || sampled == SUPRA_BAD_ARGUMENT);
  for (const int32_t next : {id, -1}) expect(supra_text(session, next, text, sizeof text, nullptr, &error) == SUPRA_OK);
  expect(supra_step(&session, &id, 1, &error) == SUPRA_OK);
  expect(supra_feed_text(session, "ab", 2, 0, &error) == SUPRA_OK);
  return "";
}

std::vector<std::string> host_states() {
  supra_session* const session = host_session();
  supra_reset(session, nullptr);
  std::vector<std::string> states = {saved_by_host()};
  supra_feed_text(session, "ab", 2, 0, nullptr);
  char text[16];
  supra_text(session, 0xe4, text, sizeof text, nullptr, nullptr);
  states.push_back(saved_by_host());
  return states;
}

}  // namespace

const std::vector<Parser>& parsers() {
  static const std::vector<Parser> all = {
      {"json",
       json,
       {R"({"a": [1, -2.5e3, true, null, "x\u00e9\ud83d\ude00\n"], "b": {}, "c": 9007199254740993})"}},
      {"safetensors", safetensors, {bytes_of_file([](const Path& path) {
         write_safetensors(path, some_tensors());
       })}},
      {"shards",
       shards,
       {R"({"metadata": {"total_size": 1}, "weight_map": {"a": "a.safetensors", "d": "a.safetensors"}})"}},
      {"torch_file", torch_file, {bytes_of_file([](const Path& path) {
         write_torch_file(path, {{"a", Tensor::full({2, 3}, 1)}, {"b", Tensor::zeros({4}, Dtype::bf16)}},
                          {{"epoch", int64_t{1}}});
       })}},
      {"pickle",
       pickle,
       {torch_pickle({{"a", {2, 3}, Dtype::f32, ""}}, {}),
        torch_pickle({{"a", {2, 3}, Dtype::f32, ""}}, {{"epoch", int64_t{1}}, {"name", std::string("x")}})}},
      {"gguf", gguf, {small_gguf()}},
      {"gguf_model", gguf_model, {small_gguf_model("llama"), small_gguf_model("smollm3")}},
      {"gguf_vocabulary", gguf_vocabulary, {small_gguf_vocabulary("llama"), small_gguf_vocabulary("gpt2")}},
      {"config",
       config,
       {write_openlm_config(tiny_config(MixerKind::supra)).dump(true),
        write_hf_config(tiny_config(MixerKind::softmax), Dtype::bf16).dump(true),
        // what newer families add
        R"({"model_type": "gemma3_text", "hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 1, "intermediate_size": 8,
            "vocab_size": 9, "sliding_window_pattern": 2, "query_pre_attn_scalar": 4, "final_logit_softcapping": 3, "rope_parameters":
            {"full_attention": {"rope_type": "linear", "factor": 8}, "sliding_attention": {"rope_theta": 100}}})",
        R"({"model_type": "smollm3", "hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 1, "intermediate_size": 8,
            "vocab_size": 9, "no_rope_layers": [1, 0], "rope_scaling": {"type": "su", "short_factor": [1, 2], "long_factor": [3, 4],
            "original_max_position_embeddings": 16}})"}},
      {"model_folder", model_folder, model_folders()},
      {"llama2c", llama2c, {llama2c_text(0), llama2c_text(1), llama2c_text(2)}},
      {"llama2c_tokenizer",
       llama2c_tokenizer,
       {bin_file(small_vocabulary(true)), bin_file(three_marks(true))}},
      {"protobuf", protobuf, {model_file(three_marks(false))}},
      {"sentencepiece",
       sentencepiece,
       {model_file(small_vocabulary(false), {.byte_fallback = true}), model_file(three_marks(false)),
        model_file(small_vocabulary(false),
                   {.type = 1, .byte_fallback = true, .charsmap = small_charsmap()}),
        model_file(user_defined_vocabulary(), {.charsmap = small_charsmap()})}},
      {"tokenizer_json", tokenizer_json, {small_tokenizer_json(true), small_tokenizer_json(false), small_unigram_json()}},
      {"regex", regex, {join(R"((?i:'s|'t)|[^\r\n\p{L}]?\p{Lu}+?|\d{1,3}(?=(?:\d{3})*\b)|(?>a|ab)c|x{2,3}+| ?[^\s\x{41}-\u0045]++|\s+(?!\S))", "It's a 1234 Abc\n ")}},
      {"vocab_and_merges", vocabulary_and_merges, {join(kVocabulary, "#version: 0.2\na b\n\u0120 a\n")}},
      {"text", text, {"It's a  caf\u00e9, 1234 \u4f60\u597d e\u0301\r\n \n"}},
      {"task_lines", task_lines,
       {R"({"query": "a", "choices": ["b", "c"], "gold": 1})", R"({"context_options": ["a", "b"], "continuation": "c", "gold": 0})",
        R"({"context": "a\u00e9", "continuation": "b"})"}},
      {"task_csv", task_csv, {"question,choice0,choice1,choice2,choice3,answer\n\"a \"\"b\"\",\nc\",w,x,y,z,2\r\n"}},
      {"training_shard", training_shard, {small_shard()}},
      {"session_state", session_state, {bytes_of_file([](const Path& path) {
         Session session(*smallest_model());
         session.step(std::vector<int32_t>{0});
         session.save(path);
       })}},
      {"host_state", host_state, host_states()},
      {"training_checkpoint", training_checkpoint, {small_training_checkpoint()}}};
  return all;
}

}  // namespace supra
