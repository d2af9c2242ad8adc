#include "supra/formats/foreign_models.h"
#include "supra/formats/weights/torch_file.h"
#include "supra/tokenizers/gguf_vocabulary.h"

// What stands in for the readers of files that other programs write, in the library for hosts: they say so. None of
// those holds a recurrent model but PyTorch's, and those supra convert reads. This file is never linked into a program of
// ours.

namespace supra {

[[noreturn]] static void refuse(const Path& file, const char* whose) {
  fail("%s: is %s, a host reads what supra linearize and supra convert --to packed write", file.c_str(), whose);
}

ModelSource open_gguf(const Path& path) { refuse(path, "a GGUF"); }
ModelSource open_hugging_face(const Path& path, const Json&) { refuse(path, "a transformer of Hugging Face's"); }
ModelSource open_llama2c(const Path& path) { refuse(path, "no packed model, and if one of llama2.c's a transformer"); }
std::unique_ptr<WeightReader> open_gguf_file(const Path& path) { refuse(path, "a GGUF"); }
std::unique_ptr<WeightReader> open_torch_file(const Path& path) { refuse(path, "PyTorch's"); }
std::shared_ptr<const Tokenizer> make_gguf_tokenizer(const Path&) { return nullptr; }

}  // namespace supra
