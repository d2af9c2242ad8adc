#include "supra/formats/weights/llama2c.h"

#include <cstring>

namespace supra {

static constexpr uint32_t kMagic = 0x616b3432;

Llama2c::Llama2c(const Path& path) : WeightReader(path), file_(path) {
  read_header();
  lay_out();
  CHECK(end_ == file_.size(),
        "%s: %lu bytes follow the last tensor of a llama2.c model (header and contents disagree)",
        path.c_str(), static_cast<unsigned long>(file_.size() - end_));
}

void Llama2c::read_header() {
  const char* where = path().c_str();
  auto int_at = [&](uint64_t offset) {
    int32_t value;
    CHECK(offset + sizeof value <= file_.size(),
          "%s: has %zu bytes, too few for the header of a llama2.c model", where, file_.size());
    memcpy(&value, file_.data() + offset, sizeof value);
    return value;
  };
  Llama2cHeader& h = header_;
  const bool has_magic = static_cast<uint32_t>(int_at(0)) == kMagic;
  h.version = has_magic ? int_at(4) : 0;
  CHECK(!has_magic || h.version == 1 || h.version == 2,
        "%s: is llama2.c version %d, versions 0, 1 and 2 are read", where, h.version);
  int64_t* fields[] = {&h.dim, &h.hidden, &h.layers, &h.heads, &h.kv_heads, &h.vocab, &h.context};
  for (uint64_t i = 0; i < 7; i++) *fields[i] = int_at((has_magic ? 8 : 0) + 4 * i);
  end_ = has_magic ? 256 : 28;
  if (has_magic) {
    CHECK(file_.size() >= end_, "%s: has %zu bytes, the header has 256", where, file_.size());
    h.tied = file_.data()[36] != 0;
    h.group_size = h.version == 2 ? int_at(37) : 0;
  } else {
    h.tied = h.vocab > 0;
    h.vocab = h.vocab < 0 ? -h.vocab : h.vocab;
  }

  bool plausible = h.version != 2 || h.group_size > 0;
  for (const int64_t* field : fields) plausible = plausible && *field > 0;
  plausible = plausible && h.dim % h.heads == 0 && h.heads % h.kv_heads == 0 && h.dim / h.heads % 2 == 0;
  CHECK(plausible,
        "%s: is no llama2.c model: the header says dim %ld, hidden %ld, %ld layers, %ld heads, %ld kv heads, "
        "vocabulary "
        "%ld, context %ld%s",
        where, static_cast<long>(h.dim), static_cast<long>(h.hidden), static_cast<long>(h.layers),
        static_cast<long>(h.heads), static_cast<long>(h.kv_heads), static_cast<long>(h.vocab),
        static_cast<long>(h.context),
        h.version == 2 ? format(", group size %ld", static_cast<long>(h.group_size)).c_str() : "");
}

void Llama2c::skip(uint64_t bytes, const char* what) {
  CHECK(bytes <= file_.size() - end_,
        "%s: is cut short: %s needs %lu bytes from byte %lu on, the file has %zu", path().c_str(), what,
        static_cast<unsigned long>(bytes), static_cast<unsigned long>(end_), file_.size());
  end_ += bytes;
}

void Llama2c::place(const std::string& name, Shape shape, bool quantised) {
  // two factors below 2^31 each
  const uint64_t n = static_cast<uint64_t>(numel(shape)), group = static_cast<uint64_t>(header_.group_size);
  CHECK(!quantised || n % group == 0, "%s: tensor %s of shape %s is no multiple of the group size %lu",
        path().c_str(), name.c_str(), to_string(shape).c_str(), static_cast<unsigned long>(group));
  offsets_.push_back(end_);
  skip(quantised ? n : n * sizeof(float), name.c_str());
  if (quantised) skip(n / group * sizeof(float), name.c_str());
  add({name, std::move(shape), Dtype::f32, quantised ? "q80" : ""});
}

// Every tensor takes bytes of the file, so a header that lies about the number of layers soon runs out of
// them.
void Llama2c::lay_out() {
  const Llama2cHeader& h = header_;
  const int64_t kv_dim = h.dim / h.heads * h.kv_heads;
  const bool quantised = h.version == 2;
  auto each_layer = [&](const char* name, const Shape& shape) {
    for (int64_t i = 0; i < h.layers; i++) {
      place(format("layers.%ld.%s.weight", static_cast<long>(i), name), shape,
            quantised && shape.size() == 2);
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
    skip(static_cast<uint64_t>(h.context * (h.dim / h.heads)) * sizeof(float), "the rotary tables");
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
  if (info.stored.empty())
    return Tensor::wrap(const_cast<uint8_t*>(data), info.shape, Dtype::f32, file_.owner());
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
