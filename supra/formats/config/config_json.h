#pragma once
#include "nn/config.h"
#include "supra/formats/parse/json.h"

namespace supra {

// All fields of a config by name. `supra inspect` prints them, and checkpoints contain those that OpenLM has no key for.
Json describe(const Config& config);

// Sets the fields that `json` names: the reverse of describe(). Throws Error for an unknown name, because it may be a newer
// version's and change the model.
void set_fields(Config& config, const Json& json);

// A count in another program's config. Throws Error unless it is 1 to `most`, so that it can be divided by and allocated.
int64_t read_count(const Json& json, std::string_view key, std::optional<int64_t> otherwise = {}, int64_t most = INT32_MAX);

}  // namespace supra
