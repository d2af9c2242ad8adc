#pragma once
#include <functional>
#include <optional>

#include "supra/formats/parse/json.h"
#include "supra/model.h"

namespace supra {

// Measurements of models for a comparison. Results are stored in files, so that nothing is measured twice.

// Called from time to time with the finished part, 0 to 1. It may throw to stop.
using OnPart = std::function<void(double part)>;

// A measurement: one or more figures of a model. The table decides how they are shown.
struct Measure {
  std::string name;         // for example "hellaswag"; also the name of the result's file
  std::string key;          // everything that the result depends on except the models: hashes of files, and options
  int64_t work = 0;         // about how many tokens the model reads, to estimate the time
  bool by_teacher = false;  // compares with the teacher: only for students with the teacher's vocabulary
  // A part of the model's report: {"nll":…} or {"tasks":{"hellaswag":{…}}}. `teacher` is null unless by_teacher.
  std::function<Json(const Model& model, const Model* teacher, const OnPart& on_part)> run = {};
};

// A hash in hexadecimal digits, for keys.
std::string hex(uint64_t hash);
std::string hash_of_text(std::string_view text);
std::string hash_of_tokenizer(const Tokenizer& tokenizer);
// The hash of config, weights and tokenizer.
std::string key_of_model(const Model& model);

// The result of a measurement of a model.
struct KeptResult {
  Json result;
  double seconds = 0;  // time of the measurement
};

// Results in a folder, one file each, complete or absent. A result is found by the keys of model and measurement.
class KeptResults {
 public:
  explicit KeptResults(Path folder);

  // Empty if there is no result or the file cannot be read; the measurement is then repeated.
  std::optional<KeptResult> find(const std::string& model_key, const Measure& measure) const;
  void keep(const std::string& model_key, const Path& model, const Measure& measure, const KeptResult& kept) const;

 private:
  Path file_of(const std::string& model_key, const Measure& measure) const;
  Path folder_;
};

// Adds the members of `part` to `whole`; objects of the same name are merged.
void merge(Json& whole, const Json& part);

}  // namespace supra
