#include <algorithm>
#include <iterator>
#include <unordered_set>

#include "supra/formats/parse/crc32.h"
#include "supra/formats/parse/pickle.h"
#include "supra/formats/parse/zip.h"
#include "supra/formats/weights/torch_file.h"

// The writing part of torch_file.h. The opcodes are those of pickle.cpp; the memo is not used.

namespace supra {

namespace {

std::string pickled(const std::string& text) {
  return std::string("X").append(bytes_of(static_cast<uint32_t>(text.size()))).append(text);
}
std::string pickled(int64_t number) { return std::string("\x8a\x08").append(bytes_of(number)); }

std::string pickled(const Shape& numbers) {
  std::string text = "(";
  for (const int64_t number : numbers) text += pickled(number);
  return text + "t";
}

std::string global(const std::string& module, const std::string& name) {
  return "c" + module + "\n" + name + "\n";
}

const char* storage_of(const TensorInfo& info) {
  const auto found = std::find(std::begin(kTorchStorages), std::end(kTorchStorages), info.dtype);
  CHECK(found != std::end(kTorchStorages),
        "tensor %s is %s, which PyTorch's files do not hold (give another dtype)", info.name.c_str(),
        name(info.dtype));
  return kPickleGlobals[found - std::begin(kTorchStorages)] + std::string("torch ").size();
}

}  // namespace

std::string torch_pickle(const std::vector<TensorInfo>& tensors, const TorchExtra& extra) {
  std::string out = "\x80\x02";
  if (!extra.empty()) out += "}(";
  for (const auto& [key, value] : extra)
    out += pickled(key) + std::visit([](const auto& v) { return pickled(v); }, value);
  if (!extra.empty()) out += pickled("state_dict");
  const std::string ordered_dict = global("collections", "OrderedDict") + ")R";
  out += ordered_dict + "(";
  for (size_t i = 0; i < tensors.size(); i++) {
    const TensorInfo& info = tensors[i];
    Shape strides(info.shape.size());
    int64_t stride = 1;
    for (size_t d = strides.size(); d-- > 0; stride *= std::max<int64_t>(info.shape[d], 1))
      strides[d] = stride;
    out += pickled(info.name) + global("torch._utils", "_rebuild_tensor_v2");
    out += "((" + pickled("storage") + global("torch", storage_of(info)) + pickled(std::to_string(i)) +
           pickled("cpu") + pickled(numel(info.shape)) + "tQ";
    // offset 0; at the end: requires no gradient, no hooks
    out += "K" + std::string(1, '\0') + pickled(info.shape) + pickled(strides) + "\x89" + ordered_dict + "tR";
  }
  out += "u";
  if (!extra.empty()) out += "u";
  return out + ".";
}

void write_torch_file(const Path& path, const NamedTensors& tensors, const TorchExtra& extra, std::optional<Dtype> dtype) {
  std::vector<TensorInfo> infos;
  std::unordered_set<std::string> names;
  for (const auto& [name, tensor] : tensors) {
    CHECK(names.insert(name).second, "%s: cannot write two tensors named %s", path.c_str(), name.c_str());
    infos.push_back({name, tensor.shape(), dtype.value_or(tensor.dtype()), ""});
  }
  FileWriter out(path);
  const auto write = [&](std::string_view bytes) { out.write(bytes); };
  ZipWriter zip(write);
  const std::string folder = path.stem().string() + "/";
  const auto add = [&](const char* name, const std::string& text) {
    zip.begin(folder + name, text.size(), crc32(0, text));
    out.write(text);
  };
  add("data.pkl", torch_pickle(infos, extra));
  add("byteorder", "little");
  for (size_t i = 0; i < infos.size(); i++) {
    // the checksum comes before the bytes, so the bytes are computed twice
    const Tensor& tensor = tensors[i].second;
    uint32_t crc = 0;
    uint64_t size = 0;
    each_piece(tensor, infos[i].dtype, [&](std::string_view bytes) {
      crc = crc32(crc, bytes);
      size += bytes.size();
    });
    zip.begin(folder + "data/" + std::to_string(i), size, crc);
    each_piece(tensor, infos[i].dtype, write);
  }
  add("version", "3\n");
  zip.finish();
  out.finish();
}

}  // namespace supra
