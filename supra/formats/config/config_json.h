#pragma once
#include "nn/config.h"
#include "supra/formats/parse/json.h"

namespace supra {

// Every field of a config by name, in words of our own: what `supra inspect` prints, and what a checkpoint
// adds where OpenLM has no word.
Json describe(const Config& config);

// Sets the fields that `json` names, the reverse of describe(). Throws Error for a name it does not know: a
// newer version may mean something by it that changes the model.
void set_fields(Config& config, const Json& json);

// A count of a foreign config, from 1 to `most`, so that nothing is divided by zero or allocated on its word.
int64_t read_count(const Json& json, std::string_view key, std::optional<int64_t> otherwise = {},
                   int64_t most = INT32_MAX);

}  // namespace supra
