#include "supra/tokenizers/tokenizer_config.h"

#include <algorithm>

#include "supra/formats/parse/json.h"

namespace supra {

// The key has a template, or a list of named templates.
static std::string chat_template_in(const Json& config) {
  const Json* found = config.find("chat_template");
  if (!found) return "";
  if (found->is_string()) return found->as_string();
  for (const Json& named : found->as_array("chat_template")) {
    if (named.text("name", "") == "default") return named.text("template");
  }
  return "";
}

static std::vector<int32_t> ends_in(const Json& generation) {
  const Json* found = generation.find("eos_token_id");
  std::vector<int32_t> ends;
  const auto add = [&](const Json& id) {
    ends.push_back(static_cast<int32_t>(std::clamp<int64_t>(id.as_integer("eos_token_id"), -1, INT32_MAX)));
  };
  if (found && found->is_array())
    for (const Json& id : found->as_array()) add(id);
  else if (found)
    add(*found);
  return ends;
}

TokenizerConfig read_tokenizer_config(const ModelFiles& beside) {
  TokenizerConfig config;
  const auto read = [&](const char* name) {
    if (!beside.has(name)) return std::string();
    config.files.push_back({name, std::string(beside.open(name).text())});
    return config.files.back().bytes;
  };
  const auto where = [&](const char* name) { return (beside.path() / name).string(); };
  config.text = read("tokenizer_config.json");
  config.path = where("tokenizer_config.json");
  config.chat_template = read("chat_template.jinja");
  if (!config.text.empty()) {
    const Json json = Json::parse(config.text, where("tokenizer_config.json"));
    if (config.chat_template.empty()) config.chat_template = chat_template_in(json);
    if (const Json* tokens = json.find("added_tokens_decoder")) {
      for (const auto& [id, token] : tokens->as_object("added_tokens_decoder"))
        if (token.flag("rstrip", false)) config.strips_right.push_back(token.text("content"));
    }
  }
  if (const std::string generation = read("generation_config.json"); !generation.empty())
    config.ends = ends_in(Json::parse(generation, where("generation_config.json")));
  read("special_tokens_map.json");
  return config;
}

}  // namespace supra
