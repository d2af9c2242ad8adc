#include "supra/formats/weights/torch_file.h"

#include <algorithm>
#include <unordered_set>

#include "supra/formats/parse/pickle.h"
#include "supra/formats/parse/zip.h"
#include "tensor/parallel.h"

namespace supra {

namespace {

constexpr size_t kDeepest = 16, kLongestName = 512;
// A further name for the same tensor takes few bytes of the file and some 500 of memory. So there may be at most one name for
// so many bytes of the file.
constexpr size_t kBytesOfATensor = 32;

// The storage after those with a dtype.
constexpr int64_t kBool = std::size(kTorchStorages);

// A tensor's elements: the record that is their storage, an offset in bytes, and strides in elements.
struct View {
  const ZipDirectory::value_type* storage;
  uint64_t offset;
  Shape strides;
};

class TorchFile : public WeightReader {
 public:
  explicit TorchFile(const Path& path);

 protected:
  Tensor read(size_t index) const override;

 private:
  void collect(const Pickle& pickle, const PickleValue& root, const std::string& prefix);
  void add_tensor(const Pickle& pickle, const PickleValue& tensor, const std::string& name, const std::string& prefix);

  MappedFile file_;
  ZipDirectory records_;
  std::vector<View> views_;
};

TorchFile::TorchFile(const Path& path) : WeightReader(path), file_(path) {
  records_ = read_zip(file_.text(), path.string());
  const auto contents = [&](const auto& record) { return record_bytes(file_.text(), record, path.string()); };
  const auto pickled = std::find_if(records_.begin(), records_.end(),
                                    [](const auto& record) { return record.first.ends_with("/data.pkl"); });
  CHECK(pickled != records_.end(), "%s: is a zip archive without data.pkl, so it has no weights of PyTorch", path.c_str());
  const std::string name(pickled->first),
      prefix = name.substr(0, name.size() - std::string("data.pkl").size());
  const auto order = records_.find(prefix + "byteorder");
  CHECK(order == records_.end() || contents(*order) == "little",
        "%s: was written on a big-endian machine, little-endian files are read", path.c_str());

  const Pickle pickle(contents(*pickled), path.string() + ": " + name);
  const PickleValue* root = &pickle.root();
  for (const char* key : {"state_dict", "model_state_dict", "model"}) {
    const PickleValue* inner = root->kind == PickleValue::dict ? pickle.find(*root, key) : nullptr;
    if (inner && inner->kind == PickleValue::dict) {
      root = inner;
      break;
    }
  }
  CHECK(root->kind == PickleValue::dict, "%s: %s holds no dict of tensors", path.c_str(), name.c_str());
  collect(pickle, *root, prefix);
}

// A dict may occur only once: otherwise there could be more names than the file has bytes.
void TorchFile::collect(const Pickle& pickle, const PickleValue& root, const std::string& prefix) {
  struct Place {
    std::vector<uint32_t> items;
    size_t next;
    std::string name;
  };
  std::vector<Place> path_down;
  path_down.push_back({pickle.items(root), 0, ""});
  std::unordered_set<const PickleValue*> met = {&root};
  while (!path_down.empty()) {
    Place& place = path_down.back();
    if (place.next == place.items.size()) {
      path_down.pop_back();
      continue;
    }
    const PickleValue &key = pickle.at(place.items[place.next]),
                      &value = pickle.at(place.items[place.next + 1]);
    place.next += 2;
    const bool tensor = value.kind == PickleValue::tensor, dict = value.kind == PickleValue::dict;
    if (key.kind != PickleValue::text || (!tensor && !dict)) continue;
    CHECK(place.name.size() + key.str().size() < kLongestName && path_down.size() <= kDeepest,
          "%s: the name of a tensor below \"%s\" is too long", path().c_str(), place.name.c_str());
    const std::string name = place.name + std::string(key.str());
    if (tensor) add_tensor(pickle, value, name, prefix);
    CHECK(views_.size() <= 1024 + file_.size() / kBytesOfATensor,
          "%s: names more than %zu tensors, too many for its %zu bytes (it is not a model, or it is damaged)",
          path().c_str(), views_.size() - 1, file_.size());
    if (!dict) continue;
    CHECK(met.insert(&value).second, "%s: the dict %s occurs in two places", path().c_str(), name.c_str());
    path_down.push_back({pickle.items(value), 0, name + "."});
  }
}

void TorchFile::add_tensor(const Pickle& pickle, const PickleValue& tensor, const std::string& name,
                           const std::string& prefix) {
  const char* where = path().c_str();
  // item i of a tuple, which must be of this kind
  const auto item = [&](const std::vector<uint32_t>& items, size_t i, PickleValue::Kind kind) -> const PickleValue& {
    const bool there = i < items.size() && pickle.at(items[i]).kind == kind;
    CHECK(there, "%s: tensor %s is not described as in PyTorch's files", where, name.c_str());
    return pickle.at(items[i]);
  };
  // the first items of the tuple that describes a tensor or a storage; many of them may share a long tuple
  const auto description = [&](const PickleValue& value) {
    return pickle.items(item({static_cast<uint32_t>(value.number)}, 0, PickleValue::tuple), 8);
  };
  const auto integers = [&](const PickleValue& tuple) {
    Shape numbers;
    const std::vector<uint32_t> items = pickle.items(tuple);
    for (size_t i = 0; i < items.size(); i++) numbers.push_back(item(items, i, PickleValue::integer).number);
    return numbers;
  };
  const std::vector<uint32_t> arguments = description(tensor),
                              storage = description(item(arguments, 0, PickleValue::storage));
  const int64_t offset = item(arguments, 1, PickleValue::integer).number;
  const PickleValue &sizes = item(arguments, 2, PickleValue::tuple),
                    &strides = item(arguments, 3, PickleValue::tuple);
  CHECK(sizes.size <= Shape::kMostDimensions && sizes.size == strides.size, "%s: tensor %s has %u sizes and %u strides", where,
        name.c_str(), sizes.size, strides.size);
  const int64_t type = item(storage, 1, PickleValue::global).number;
  CHECK(type <= kBool, "%s: tensor %s is in a %s, which is not a storage", where, name.c_str(), kPickleGlobals[type]);
  const std::string record = prefix + "data/" + std::string(item(storage, 2, PickleValue::text).str());
  const auto found = records_.find(record);
  CHECK(found != records_.end(), "%s: tensor %s is in record %s, which is missing", where, name.c_str(), record.c_str());

  TensorInfo info{name, integers(sizes), type < kBool ? kTorchStorages[type] : Dtype::u8,
                  type < kBool ? "" : "bool"};
  const int64_t size = static_cast<int64_t>(size_of(info.dtype)),
                elements = static_cast<int64_t>(found->second.size) / size;
  View view{&*found, 0, integers(strides)};
  int64_t count = 1, last = offset;
  bool fits = offset >= 0;
  for (size_t i = 0; i < info.shape.size(); i++) {
    const int64_t n = info.shape[i], stride = view.strides[i];
    int64_t span;
    fits = fits && n >= 0 && stride >= 0 && !__builtin_mul_overflow(count, n, &count) &&
           !__builtin_mul_overflow(std::max<int64_t>(n - 1, 0), stride, &span) &&
           !__builtin_add_overflow(last, span, &last);
  }
  // more elements than the storage has would mean repeated ones, and a small file could fill the memory
  CHECK(fits && (count == 0 || (last < elements && count <= elements)),
        "%s: tensor %s of shape %s with strides %s from element %ld on does not fit its record %s of %ld "
        "elements",
        where, name.c_str(), to_string(info.shape).c_str(), to_string(view.strides).c_str(),
        static_cast<long>(offset), record.c_str(), static_cast<long>(elements));
  if (count > 0) view.offset = static_cast<uint64_t>(offset * size);
  views_.push_back(std::move(view));
  add(std::move(info));
}

template <class T>
void gather(const uint8_t* data, const Shape& strides, const Tensor& out) {
  const Shape& shape = out.shape();
  const int64_t C = shape.back(), stride = strides.back();
  T* to = static_cast<T*>(out.raw());
  parallel_for(out.numel() / C, 1 + (1 << 14) / C, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; row++) {
      int64_t at = 0, rest = row;
      for (size_t d = shape.size() - 1; d-- > 0; rest /= shape[d]) at += rest % shape[d] * strides[d];
      // storages may begin at any byte
      for (int64_t i = 0; i < C; i++)
        memcpy(to + row * C + i, data + (at + i * stride) * static_cast<int64_t>(sizeof(T)), sizeof(T));
    }
  });
}

Tensor TorchFile::read(size_t index) const {
  const TensorInfo& info = tensors()[index];
  const View& view = views_[index];
  CHECK(info.stored.empty(), "%s: tensor %s is of type %s, which is not read", path().c_str(),
        info.name.c_str(), info.stored.c_str());
  const std::string_view storage = record_bytes(file_.text(), *view.storage, path().string());
  const uint8_t* data = reinterpret_cast<const uint8_t*>(storage.data()) + view.offset;
  int64_t dense = 1;
  bool contiguous = true;
  for (size_t d = info.shape.size(); d-- > 0; dense *= info.shape[d])
    contiguous = contiguous && (info.shape[d] == 1 || view.strides[d] == dense);
  if (contiguous || numel(info.shape) == 0) return map_tensor(file_, data, info.shape, info.dtype);
  const Tensor out = Tensor::empty(info.shape, info.dtype);
  switch (size_of(info.dtype)) {
    case 1: gather<uint8_t>(data, view.strides, out); break;
    case 2: gather<uint16_t>(data, view.strides, out); break;
    case 4: gather<uint32_t>(data, view.strides, out); break;
    default: gather<uint64_t>(data, view.strides, out);
  }
  return out;
}

}  // namespace

std::unique_ptr<WeightReader> open_torch_file(const Path& path) { return std::make_unique<TorchFile>(path); }

}  // namespace supra
