#pragma once
#include <memory>
#include <optional>

#include "supra/formats/weights/weights.h"

// safetensors (github.com/huggingface/safetensors): 8 bytes of header length n, n bytes of JSON, the tensors' bytes.
//   { "__metadata__": {"key": "text", ...},
//     "name": {"dtype": "F32", "shape": [2, 3], "data_offsets": [begin, end]}, ... }
// Offsets count from the end of the header. The tensors fill the rest of the file without holes or overlaps. A quantised matrix
// (O,C) is a U8 tensor (O, bytes of a row), and the metadata has its dtype under its name, such as "q8_0". Readers give it the
// shape (O,C) again (tensor/quantized.h).

namespace supra {

// Maps a file and checks its whole header: sizes, offsets, overlaps. Lists tensors of types that the project lacks (BOOL, F8_*,
// ...); get() refuses them. A path that ends in .index.json is a model in several files (shards.h).
std::unique_ptr<WeightReader> open_safetensors(const Path& path);
std::unique_ptr<WeightReader> open_safetensors(const MappedFile& file);

using Metadata = std::vector<std::pair<std::string, std::string>>;

// The text of the header, and its __metadata__. Throw Error if there is no header.
std::string_view safetensors_header(const MappedFile& file);
Metadata read_metadata(const MappedFile& file);

// Writes the tensors, converted to `dtype` if it is given, without a second copy in memory. Larger elements come first, so that
// all tensors are aligned in a mapped file. Frameworks look for {"format", "pt"}. If the metadata has checksums_of() the
// tensors (checksums.h), this function fills in the header's.
void write_safetensors(const Path& path, const NamedTensors& tensors, const Metadata& metadata = {{"format", "pt"}},
                       std::optional<Dtype> dtype = {});

// Writes into a folder with Hugging Face's names: model.safetensors, or for more than `max_shard_bytes` of tensors
// model-00001-of-00002.safetensors, ... and model.safetensors.index.json. A tensor larger than that is a shard by itself.
void write_sharded_safetensors(const Path& folder, const NamedTensors& tensors, std::optional<Dtype> dtype,
                               uint64_t max_shard_bytes);

}  // namespace supra
