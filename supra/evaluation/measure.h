#pragma once
#include <functional>
#include <optional>

#include "supra/formats/json.h"
#include "supra/model.h"

namespace supra {

// What is measured of models side by side, and kept in files, so that nothing is measured twice.

// Called now and then with the part that is done, 0 to 1. It may throw, to stop.
using OnPart = std::function<void(double part)>;

// One figure or a few of a model. How it is shown is the table's business.
struct Measure {
  std::string name;         // "hellaswag": of the result's file too
  std::string key;          // all that the result depends on but the models: files, by hash, and options
  int64_t work = 0;         // about how many tokens go through the model, for the time left
  bool by_teacher = false;  // it compares with the teacher: students only, and of the teacher's vocabulary
  // A part of the model's report: {"nll":…} or {"tasks":{"hellaswag":{…}}}. `teacher` is null unless by_teacher.
  std::function<Json(const Model& model, const Model* teacher, const OnPart& on_part)> run = {};
};

// The hash in hexadecimal digits, for keys.
std::string hex(uint64_t hash);
std::string hash_of_text(std::string_view text);
std::string hash_of_tokenizer(const Tokenizer& tokenizer);
// Of config, weights and tokenizer.
std::string key_of_model(const Model& model);

// What was measured of a model.
struct Kept {
  Json result;
  double seconds = 0;  // that it took
};

// Results in a folder, a file each, complete or absent. A result is found again by the keys of model and measure.
class KeptResults {
 public:
  explicit KeptResults(Path folder);

  // Nothing where there is none, or a file that cannot be read: it is measured again.
  std::optional<Kept> find(const std::string& model_key, const Measure& measure) const;
  void keep(const std::string& model_key, const Path& model, const Measure& measure, const Kept& kept) const;

 private:
  Path file_of(const std::string& model_key, const Measure& measure) const;
  Path folder_;
};

// Puts the members of `part` into `whole`; objects of one name are joined.
void merge(Json& whole, const Json& part);

}  // namespace supra
