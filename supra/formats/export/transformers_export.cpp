#include "supra/formats/export/transformers_export.h"

#include "supra/formats/config/config_json.h"
#include "supra/formats/export/hf_export.h"

// The assembler puts the file into the program. The path is relative to the folder in which make runs.
asm(R"(
  .pushsection .rodata
supra_modeling_begin:
  .incbin "supra/formats/export/modeling_supra.py"
supra_modeling_end:
  .popsection
)");
extern "C" {
[[gnu::visibility("hidden")]] extern const char supra_modeling_begin[], supra_modeling_end[];
}

namespace supra {

std::string_view modeling_supra() { return {supra_modeling_begin, supra_modeling_end}; }

Json write_transformers_config(const Config& config, Dtype dtype) {
  const Json code =
      Json::object({{"AutoConfig", "modeling_supra.SupraConfig"}, {"AutoModelForCausalLM", "modeling_supra.SupraForCausalLM"}});
  return Json::object({{"architectures", Json::array({"SupraForCausalLM"})},
                       {"auto_map", code},
                       {"model_type", "supra"},
                       {"tie_word_embeddings", config.tied},
                       {"dtype", torch_name(dtype)},        // read by transformers 5
                       {"torch_dtype", torch_name(dtype)},  // read by transformers 4
                       {"use_cache", true},
                       {"supra", describe(config)}});
}

}  // namespace supra
