#include "supra/evaluation/measure.h"

namespace supra {

std::string hex(uint64_t hash) { return format("%016llx", static_cast<unsigned long long>(hash)); }

std::string hash_of_text(std::string_view text) {
  Hash hash;
  hash.add(text.size());
  hash.add(text.data(), text.size());
  return hex(hash.value());
}

std::string hash_of_tokenizer(const Tokenizer& tokenizer) {
  Hash hash;
  hash.add(static_cast<uint64_t>(tokenizer.size()));
  hash.add(static_cast<uint64_t>(tokenizer.adds_bos()));
  for (const Tokenizer::File& file : tokenizer.files()) hash.add(file.bytes);
  return hex(hash.value());
}

std::string key_of_model(const Model& model) { return to_text(model.fingerprint) + "-" + hash_of_tokenizer(tokenizer_of(model)); }

KeptResults::KeptResults(Path folder) : folder_(std::move(folder)) { make_directories(folder_); }

// Increase it when a measurement changes its meaning: older results are then measured again.
constexpr int kVersion = 2;

static std::string whole_key(const std::string& model_key, const Measure& measure) {
  return format("%d ", kVersion) + model_key + " " + measure.name + " " + measure.key;
}

Path KeptResults::file_of(const std::string& model_key, const Measure& measure) const {
  return folder_ / (measure.name + "-" + hash_of_text(whole_key(model_key, measure)) + ".json");
}

std::optional<KeptResult> KeptResults::find(const std::string& model_key, const Measure& measure) const {
  const Path file = file_of(model_key, measure);
  if (!std::filesystem::exists(file)) return {};
  try {
    const Json json = Json::load(file);
    if (json.text("key") != whole_key(model_key, measure)) return {};
    return KeptResult{json.at("result"), json.number("seconds")};
  } catch (const Error&) {
    return {};
  }
}

void KeptResults::keep(const std::string& model_key, const Path& model, const Measure& measure, const KeptResult& kept) const {
  Json json = Json::object();
  json.set("measure", measure.name);
  json.set("model", model.string());
  json.set("key", whole_key(model_key, measure));
  json.set("seconds", kept.seconds);
  json.set("result", kept.result);
  const Path file = file_of(model_key, measure);
  remove_unfinished(file);
  write_file_atomically(file, json.dump(true) + "\n");
}

void merge(Json& whole, const Json& part) {
  for (const Json::Member& member : part.as_object()) {
    const Json* there = whole.find(member.key);
    if (!there || !there->is_object() || !member.value.is_object()) {
      whole.set(member.key, member.value);
      continue;
    }
    Json joined = *there;
    merge(joined, member.value);
    whole.set(member.key, std::move(joined));
  }
}

}  // namespace supra
