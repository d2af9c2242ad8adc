#include "supra/formats/foreign_models.h"
#include "supra/formats/weights/torch_file.h"
#include "supra/tokenizers/gguf_vocabulary.h"

// Link-time stubs for the readers of other programs' files, in the library for hosts: they refuse the file. Of these
// files only PyTorch's can hold a recurrent model, and supra convert reads them. No program of this project links this file.

namespace supra {

[[noreturn]] static void refuse(const Path& file, const char* whose) {
  fail("%s: is %s; this library reads only what supra linearize and supra convert --to packed write", file.c_str(), whose);
}

ModelSource open_gguf(const Path& path) { refuse(path, "a GGUF"); }
ModelSource open_hugging_face(const Path& path, const Json&) { refuse(path, "a transformer in Hugging Face's format"); }
ModelSource open_llama2c(const Path& path) { refuse(path, "not a packed model (perhaps a transformer of llama2.c)"); }
std::unique_ptr<WeightReader> open_gguf_file(const Path& path) { refuse(path, "a GGUF"); }
std::unique_ptr<WeightReader> open_torch_file(const Path& path) { refuse(path, "a file of PyTorch"); }
std::shared_ptr<const Tokenizer> make_gguf_tokenizer(const Path&) { return nullptr; }

}  // namespace supra
