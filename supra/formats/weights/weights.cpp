#include "supra/formats/weights/weights.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include "tensor/quantized.h"

namespace supra {

static_assert(std::endian::native == std::endian::little,
              "all weight files are little-endian and mapped as they are");

const TensorInfo* WeightReader::find(const std::string& name) const {
  const auto found = index_.find(name);
  return found == index_.end() ? nullptr : &tensors_[found->second];
}

Tensor WeightReader::get(const std::string& name) const {
  const TensorInfo* info = find(name);
  CHECK(info, "%s: tensor %s is missing (the file has %zu others; is it another kind of model?)",
        path_.c_str(), name.c_str(), tensors_.size());
  return read(static_cast<size_t>(info - tensors_.data()));
}

Tensor WeightReader::get(const std::string& name, const Shape& shape, Dtype dtype) const {
  const TensorInfo* info = find(name);
  CHECK(!info || info->shape == shape, "%s: tensor %s is %s, the model needs %s", path_.c_str(), name.c_str(),
        to_string(info->shape).c_str(), to_string(shape).c_str());
  return get(name).to(dtype);
}

size_t WeightReader::add(TensorInfo info) {
  const bool fresh = index_.emplace(info.name, tensors_.size()).second;
  CHECK(fresh, "%s: there are two tensors %s", path_.c_str(), info.name.c_str());
  tensors_.push_back(std::move(info));
  return tensors_.size() - 1;
}

Tensor map_tensor(const MappedFile& file, const uint8_t* data, const Shape& shape, Dtype dtype) {
  // the mapping is read-only, and Tensor has no const memory: its users do not write to it
  const Tensor mapped = Tensor::wrap(const_cast<uint8_t*>(data), shape, dtype, file.owner());
  const bool aligned = is_quantized(dtype) || reinterpret_cast<uintptr_t>(data) % size_of(dtype) == 0;
  return aligned ? mapped : mapped.clone();
}

void each_piece(const Tensor& tensor, Dtype dtype, FunctionRef<void(std::string_view bytes)> f) {
  constexpr int64_t kPiece = 1 << 16;
  const bool whole_rows = is_quantized(tensor.dtype()) || is_quantized(dtype);
  const Tensor here = tensor.to(Device::cpu), source = whole_rows ? here.to(dtype) : here;
  const char* bytes = static_cast<const char*>(source.raw());
  if (source.dtype() == dtype) {
    for (size_t begin = 0; begin < source.bytes(); begin += kPiece)
      f({bytes + begin, std::min<size_t>(kPiece, source.bytes() - begin)});
    return;
  }
  const int64_t n = tensor.numel(), size = static_cast<int64_t>(size_of(tensor.dtype()));
  std::vector<char> piece(kPiece * size_of(dtype));
  for (int64_t begin = 0; begin < n; begin += kPiece) {
    const int64_t count = std::min(kPiece, n - begin);
    convert(piece.data(), dtype, bytes + begin * size, tensor.dtype(), count);
    f({piece.data(), static_cast<size_t>(count) * size_of(dtype)});
  }
}

// The index of the first of n numbers that is a NaN or an infinity (all bits of the exponent are ones); n if there is none.
template <class Bits>
static int64_t first_special(const void* numbers, int64_t n, Bits exponent) {
  constexpr int64_t kPiece = 4096;
  const char* p = static_cast<const char*>(numbers);
  for (int64_t begin = 0; begin < n; begin += kPiece) {
    const int64_t end = std::min(n, begin + kPiece);
    const auto special = [&](int64_t i) {
      Bits bits;
      memcpy(&bits, p + i * static_cast<int64_t>(sizeof bits), sizeof bits);
      return (bits & exponent) == exponent;
    };
    Bits any = 0;
    for (int64_t i = begin; i < end; i++) any |= special(i);
    for (int64_t i = begin; any && i < end; i++) {
      if (special(i)) return i;
    }
  }
  return n;
}

static int64_t first_special(const void* numbers, Dtype dtype, int64_t n) {
  switch (dtype) {
    case Dtype::f64: return first_special<uint64_t>(numbers, n, 0x7ff0000000000000);
    case Dtype::f32: return first_special<uint32_t>(numbers, n, 0x7f800000);
    case Dtype::f16: return first_special<uint16_t>(numbers, n, 0x7c00);
    case Dtype::bf16: return first_special<uint16_t>(numbers, n, 0x7f80);
    default: return n;
  }
}

void check_finite(const Tensor& tensor, const std::string& name, const Path& path) {
  const int64_t n = tensor.numel(), C = tensor.rank() > 0 ? tensor.dim(-1) : 1;
  int64_t bad = n;
  if (!is_quantized(tensor.dtype())) bad = first_special(tensor.raw(), tensor.dtype(), n);
  for (int64_t row = 0; is_quantized(tensor.dtype()) && bad == n && row * C < n; row++) {
    const ScaleRange scales = scales_of(tensor.rows(row, row + 1).raw(), tensor.dtype(), C);
    const int64_t scale = first_special(scales.data, Dtype::f16, scales.count);
    if (scale < scales.count) bad = row * C + scale % (C / kBlock) * kBlock;
  }
  CHECK(bad == n,
        "%s: tensor %s holds a NaN or an infinity at element %ld of %s; weights must be finite (the file is damaged, or the run that "
        "wrote it had diverged)",
        path.c_str(), name.c_str(), static_cast<long>(bad), to_string(tensor.shape()).c_str());
}

}  // namespace supra
