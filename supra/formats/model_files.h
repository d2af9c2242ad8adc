#pragma once
#include <memory>
#include <string>
#include <vector>

#include "supra/formats/file.h"

namespace supra {

// The files of a model, by name: in a folder, or inside a packed model.
class ModelFiles {
 public:
  explicit ModelFiles(Path path) : path_(std::move(path)) {}
  virtual ~ModelFiles() = default;

  const Path& path() const { return path_; }  // of the folder or the packed model
  virtual std::vector<std::string> names() const = 0;
  bool has(const std::string& name) const;
  // Throws Error if there is no file of that name.
  virtual MappedFile open(const std::string& name) const = 0;

 private:
  Path path_;
};

class Folder : public ModelFiles {
 public:
  // Throws Error if it is not a folder.
  explicit Folder(const Path& path);
  std::vector<std::string> names() const override;
  MappedFile open(const std::string& name) const override;
};

// The files of a model's folder, of the folder of a model's file, or of a packed model.
std::unique_ptr<ModelFiles> files_of(const Path& model);

}  // namespace supra
