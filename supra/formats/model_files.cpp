#include "supra/formats/model_files.h"

#include <dirent.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "supra/formats/weights/packed_model.h"
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
  // std::filesystem's iterator ends the program if memory runs out
  const std::unique_ptr<DIR, int (*)(DIR*)> folder(opendir(path().c_str()), closedir);
  CHECK(folder, "%s: cannot list the folder: %s", path().c_str(), strerror(errno));
  std::vector<std::string> names;
  while (const dirent* entry = readdir(folder.get())) names.push_back(entry->d_name);
  std::erase_if(names, [](const std::string& name) { return name == "." || name == ".."; });
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
