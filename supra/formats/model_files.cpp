#include "supra/formats/model_files.h"

#include <algorithm>

#include "supra/formats/packed_model.h"
#include "tensor/error.h"

namespace supra {

namespace fs = std::filesystem;

bool ModelFiles::has(const std::string& name) const {
  const std::vector<std::string> all = names();
  return std::find(all.begin(), all.end(), name) != all.end();
}

Folder::Folder(const Path& path) : ModelFiles(path) {
  std::error_code error;
  CHECK(fs::is_directory(path, error), "%s: there is no such folder", path.c_str());
}

std::vector<std::string> Folder::names() const {
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(path())) names.push_back(entry.path().filename().string());
  std::sort(names.begin(), names.end());
  return names;
}

MappedFile Folder::open(const std::string& name) const { return MappedFile(path() / name); }

std::unique_ptr<ModelFiles> files_of(const Path& model) {
  std::error_code error;
  if (fs::is_directory(model, error)) return std::make_unique<Folder>(model);
  if (fs::is_regular_file(model, error)) {
    const MappedFile file(model);
    if (is_packed(file)) return std::make_unique<PackedFiles>(file);
  }
  return std::make_unique<Folder>(model.has_parent_path() ? model.parent_path() : Path("."));
}

}  // namespace supra
