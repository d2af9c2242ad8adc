#include "supra/formats/weights/llama2c.h"

#include <cstring>

namespace supra {

static constexpr int32_t kMagic = 0x616b3432;
static constexpr uint64_t kHeaderBytes = 256;  // of versions 1 and 2

Llama2c::Llama2c(const Path& path) : WeightReader(path), file_(path), where_(path.string()), in_(file_.text(), where_) {
  read_header();
  lay_out();
  CHECK(in_.left() == 0, "%s: %lu bytes follow the last tensor of a llama2.c model (header and contents disagree)", path.c_str(),
        static_cast<unsigned long>(in_.left()));
}

void Llama2c::read_header() {
  const auto next = [&] { return in_.number<int32_t>("the header of a llama2.c model"); };
  Llama2cHeader& h = header_;
  const int32_t first = next();
  const bool has_magic = first == kMagic;
  h.version = has_magic ? next() : 0;
  CHECK(!has_magic || h.version == 1 || h.version == 2, "%s: is llama2.c version %d, versions 0, 1 and 2 are read", where_.c_str(),
        h.version);
  h.dim = has_magic ? next() : first;
  for (int64_t* field : {&h.hidden, &h.layers, &h.heads, &h.kv_heads, &h.vocab, &h.context}) *field = next();
  if (has_magic) {
    h.tied = in_.number<uint8_t>("the header") != 0;
    h.group_size = h.version == 2 ? next() : 0;
    in_.bytes(kHeaderBytes - in_.at(), "the header");
  } else {
    h.tied = h.vocab > 0;
    h.vocab = h.vocab < 0 ? -h.vocab : h.vocab;
  }

  bool plausible = h.version != 2 || h.group_size > 0;
  for (const int64_t size : {h.dim, h.hidden, h.layers, h.heads, h.kv_heads, h.vocab, h.context}) plausible = plausible && size > 0;
  plausible = plausible && h.dim % h.heads == 0 && h.heads % h.kv_heads == 0 && h.dim / h.heads % 2 == 0;
  CHECK(plausible,
        "%s: is not a llama2.c model: the header says dim %ld, hidden %ld, %ld layers, %ld heads, %ld kv heads, vocabulary %ld, context "
        "%ld%s",
        where_.c_str(), static_cast<long>(h.dim), static_cast<long>(h.hidden), static_cast<long>(h.layers), static_cast<long>(h.heads),
        static_cast<long>(h.kv_heads), static_cast<long>(h.vocab), static_cast<long>(h.context),
        h.version == 2 ? format(", group size %ld", static_cast<long>(h.group_size)).c_str() : "");
}

void Llama2c::place(const std::string& name, Shape shape, bool quantised) {
  // two factors below 2^31 each
  const uint64_t n = static_cast<uint64_t>(numel(shape)), group = static_cast<uint64_t>(header_.group_size);
  CHECK(!quantised || n % group == 0, "%s: tensor %s of shape %s is not divisible by the group size %lu", where_.c_str(), name.c_str(),
        to_string(shape).c_str(), static_cast<unsigned long>(group));
  offsets_.push_back(in_.at());
  in_.bytes(quantised ? n + n / group * sizeof(float) : n * sizeof(float), name.c_str());
  add({name, std::move(shape), Dtype::f32, quantised ? "q80" : ""});
}

// Each tensor takes bytes of the file, so a wrong number of layers soon reaches the end.
void Llama2c::lay_out() {
  const Llama2cHeader& h = header_;
  const int64_t kv_dim = h.dim / h.heads * h.kv_heads;
  const bool quantised = h.version == 2;
  auto each_layer = [&](const char* name, const Shape& shape) {
    for (int64_t i = 0; i < h.layers; i++) {
      place(format("layers.%ld.%s.weight", static_cast<long>(i), name), shape, quantised && shape.size() == 2);
    }
  };
  auto embedding = [&] { place("tok_embeddings.weight", {h.vocab, h.dim}, quantised); };
  auto attention = [&] {
    each_layer("attention.wq", {h.dim, h.dim});
    each_layer("attention.wk", {kv_dim, h.dim});
    each_layer("attention.wv", {kv_dim, h.dim});
    each_layer("attention.wo", {h.dim, h.dim});
  };
  auto mlp = [&] {
    each_layer("feed_forward.w1", {h.hidden, h.dim});
    each_layer("feed_forward.w2", {h.dim, h.hidden});
    each_layer("feed_forward.w3", {h.hidden, h.dim});
  };
  if (h.version == 0) {
    embedding();
    each_layer("attention_norm", {h.dim});
    attention();
    each_layer("ffn_norm", {h.dim});
    mlp();
    place("norm.weight", {h.dim}, false);
    in_.bytes(static_cast<uint64_t>(h.context * (h.dim / h.heads)) * sizeof(float), "the rotary tables");
  } else {
    each_layer("attention_norm", {h.dim});
    each_layer("ffn_norm", {h.dim});
    place("norm.weight", {h.dim}, false);
    embedding();
    attention();
    mlp();
  }
  if (!h.tied) place("output.weight", {h.vocab, h.dim}, quantised);
}

Tensor Llama2c::read(size_t index) const {
  const TensorInfo& info = tensors()[index];
  const uint8_t* data = file_.data() + offsets_[index];
  if (info.stored.empty()) return Tensor::wrap(const_cast<uint8_t*>(data), info.shape, Dtype::f32, file_.owner());
  Tensor out = Tensor::empty(info.shape);
  float* w = out.data<float>();
  const int64_t n = out.numel();
  for (int64_t begin = 0; begin < n; begin += header_.group_size) {
    float scale;
    memcpy(&scale, data + n + begin / header_.group_size * static_cast<int64_t>(sizeof scale), sizeof scale);
    for (int64_t i = begin; i < begin + header_.group_size; i++)
      w[i] = static_cast<float>(static_cast<int8_t>(data[i])) * scale;
  }
  return out;
}

}  // namespace supra
