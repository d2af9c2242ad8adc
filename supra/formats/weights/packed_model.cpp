#include "supra/formats/weights/packed_model.h"

#include "supra/formats/checkpoint.h"
#include "supra/formats/weights/checksums.h"
#include "supra/formats/config/openlm_config.h"
#include "supra/formats/weights/safetensors.h"

namespace supra {

static constexpr const char* kFormat = "supra packed";
static constexpr std::string_view kFile = "file:";

bool is_packed_file(const std::string& tensor) { return tensor.starts_with(kFile); }

// write_safetensors() writes the metadata first.
bool is_packed(const MappedFile& file) {
  const std::string_view text = file.text();
  if (text.size() < 8) return false;
  const std::string_view begin = text.substr(8, 80);
  return begin.starts_with("{\"__metadata__\"") && begin.find(format("\"%s\"", kFormat)) != begin.npos;
}

PackedFiles::PackedFiles(const MappedFile& file)
    : ModelFiles(file.path()), file_(file), tensors_(open_safetensors(file)) {}

std::vector<std::string> PackedFiles::names() const {
  std::vector<std::string> names;
  for (const TensorInfo& info : tensors_->tensors()) {
    if (is_packed_file(info.name)) names.push_back(info.name.substr(kFile.size()));
  }
  return names;
}

MappedFile PackedFiles::open(const std::string& name) const {
  const Tensor bytes = tensors_->get(std::string(kFile) + name);
  CHECK(bytes.dtype() == Dtype::u8, "%s: the file %s in it is stored as %s, expected U8", path().c_str(),
        name.c_str(), supra::name(bytes.dtype()));
  return MappedFile(path().string() + ":" + name, bytes.raw(), bytes.bytes(), file_.owner());
}

void write_packed(const Path& path, const Config& config, const NamedTensors& weights,
                  const NamedBytes& files, std::optional<Dtype> dtype) {
  check_complete(path, config, weights);
  NamedTensors all;
  for (const auto& [name, tensor] : weights) all.emplace_back(name, dtype ? tensor.to(*dtype) : tensor);
  const auto add = [&](const std::string& name, const std::string& text) {
    const auto bytes = reinterpret_cast<const uint8_t*>(text.data());
    all.emplace_back(std::string(kFile) + name, Tensor::of(std::vector<uint8_t>(bytes, bytes + text.size()),
                                                           {static_cast<int64_t>(text.size())}));
  };
  add("config.json", write_openlm_config(config).dump(true) + "\n");
  for (const auto& [name, bytes] : files) add(name, bytes);
  Metadata metadata = checksums_of(all);
  metadata.insert(metadata.begin(), {"format", kFormat});
  write_safetensors(path, all, metadata);
}

}  // namespace supra
