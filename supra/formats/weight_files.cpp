#include "supra/formats/weight_files.h"

#include "supra/formats/gguf.h"
#include "supra/formats/safetensors.h"
#include "supra/formats/shards.h"
#include "supra/formats/torch_file.h"

namespace supra {

#if defined(SUPRA_EMBED)
static constexpr char kRead[] = "safetensors and GGUF";
#else
static constexpr char kRead[] = "safetensors, PyTorch's zip files and GGUF";
#endif

static bool is_index(const Path& file) { return file.string().ends_with(".index.json"); }

const char* weight_format(const Path& file) {
  if (is_index(file)) return file.string().ends_with(".bin.index.json") ? "PyTorch" : "safetensors";
  const MappedFile mapped(file);
  const std::string_view text = mapped.text();
  if (text.starts_with("GGUF")) return "GGUF";
  // PyTorch's before zip begins with a pickled magic number of ten bytes
  const bool zip = text.starts_with("PK\x03\x04"), before_zip = text.starts_with("\x80\x02\x8a\x0a");
#if defined(SUPRA_EMBED)
  CHECK(!zip && !before_zip,
        "%s: is PyTorch's, which the library for hosts does not read (supra linearize and supra convert write "
        "what it does)",
        file.c_str());
#else
  if (zip) return "PyTorch";
  CHECK(!before_zip,
        "%s: is of PyTorch's format before zip, which is not read (load it with PyTorch 1.6 or later and save it "
        "again)",
        file.c_str());
#endif
  const bool json = text.size() > 8 && text[8] == '{';
  CHECK(json || file.extension() == ".safetensors", "%s: holds no weights that are read (%s are)", file.c_str(), kRead);
  return "safetensors";
}

std::unique_ptr<WeightReader> open_weights(const Path& file) {
  if (is_index(file)) return open_shards(file);
  const std::string_view format = weight_format(file);
  if (format == "GGUF") return std::make_unique<Gguf>(file);
#if !defined(SUPRA_EMBED)
  if (format == "PyTorch") return open_torch_file(file);
#endif
  return open_safetensors(file);
}

}  // namespace supra
