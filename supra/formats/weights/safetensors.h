#pragma once
#include <memory>
#include <optional>

#include "supra/formats/weights/weights.h"

// safetensors (github.com/huggingface/safetensors): 8 bytes of header length n, n bytes of JSON, the tensors'
// bytes.
//   { "__metadata__": {"key": "text", ...}, "name": {"dtype": "F32", "shape": [2, 3], "data_offsets": [begin,
//   end]}, ... }
// A quantised matrix (O,C) is a U8 tensor (O, bytes of a row) whose name stands in the metadata with its
// dtype, "q8_0"; readers give it the shape (O,C) again (tensor/quantized.h).
// Offsets count from the end of the header; the tensors cover the rest of the file without holes or overlaps.

namespace supra {

// Maps a file and checks all of its header: sizes, offsets, overlaps. Tensors of types that the project has
// not (BOOL, F8_*, ...) are listed, and refused by get().
//   A path that ends in .index.json names a model cut into several files, which lie in the same folder:
//   {"weight_map": {"tensor name": "file", ...}}
// Throws Error naming the file, the tensor and what is wrong with it.
std::unique_ptr<WeightReader> open_safetensors(const Path& path);
std::unique_ptr<WeightReader> open_safetensors(const MappedFile& file);

using Metadata = std::vector<std::pair<std::string, std::string>>;

// The text of the header, and what stands under __metadata__ there. Throw Error where there is no such
// header.
std::string_view safetensors_header(const MappedFile& file);
Metadata read_metadata(const MappedFile& file);

// Writes the tensors, all converted to `dtype` where there is one, without a second copy in memory. Larger
// elements come first, so that everything is aligned in a mapped file. Frameworks look for {"format", "pt"}.
// Where the metadata hold checksums_of() the tensors (checksums.h), the header's own is filled in.
void write_safetensors(const Path& path, const NamedTensors& tensors,
                       const Metadata& metadata = {{"format", "pt"}}, std::optional<Dtype> dtype = {});

// The same into a folder as Hugging Face's libraries lay it out: model.safetensors, or above
// `max_shard_bytes` of tensors model-00001-of-00002.safetensors, ... and model.safetensors.index.json. A
// larger tensor has a shard of its own.
void write_sharded_safetensors(const Path& folder, const NamedTensors& tensors, std::optional<Dtype> dtype,
                               uint64_t max_shard_bytes);

}  // namespace supra
