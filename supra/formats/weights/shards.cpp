#include "supra/formats/weights/shards.h"

#include <algorithm>
#include <map>

#include "supra/formats/parse/json.h"
#include "supra/formats/weights/weight_files.h"

namespace supra {

namespace {

class Shards : public WeightReader {
 public:
  explicit Shards(const Path& index);

 protected:
  Tensor read(size_t i) const override { return source_[i]->get(tensors()[i].name); }

 private:
  std::vector<std::unique_ptr<WeightReader>> shards_;
  std::vector<const WeightReader*> source_;
};

// A shard must be in the index's folder or below it. (Symbolic links are followed, because download caches consist of them.)
void check_shard_name(const Path& index, const Path& file) {
  const bool climbs = std::any_of(file.begin(), file.end(), [](const Path& part) { return part == ".."; });
  CHECK(!file.string().ends_with(".index.json"), "%s: shard \"%s\" is an index itself", index.c_str(), file.c_str());
  CHECK(!file.empty() && !file.is_absolute() && !climbs, "%s: shard \"%s\" must be in the same folder",
        index.c_str(), file.c_str());
}

Shards::Shards(const Path& index) : WeightReader(index) {
  const Json json = Json::load(index);
  std::map<std::string, std::vector<std::string>> names_of_file;
  for (const auto& [name, file] : json.at("weight_map").as_object("weight_map")) {
    check_shard_name(index, file.as_string(name));
    names_of_file[file.as_string(name)].push_back(name);
  }
  for (const auto& [file, names] : names_of_file) {
    shards_.push_back(open_weights(index.parent_path() / file));
    const WeightReader& shard = *shards_.back();
    for (const std::string& name : names) {
      const TensorInfo* info = shard.find(name);
      CHECK(info, "%s: tensor %s is missing, %s says it is here", shard.path().c_str(), name.c_str(), index.c_str());
      add(*info);
      source_.push_back(&shard);
    }
  }
}

}  // namespace

std::unique_ptr<WeightReader> open_shards(const Path& index) { return std::make_unique<Shards>(index); }

}  // namespace supra
