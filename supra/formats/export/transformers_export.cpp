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
  Json code = Json::object();
  code.set("AutoConfig", "modeling_supra.SupraConfig");
  code.set("AutoModelForCausalLM", "modeling_supra.SupraForCausalLM");
  Json json = Json::object();
  json.set("architectures", Json::array({"SupraForCausalLM"}));
  json.set("auto_map", code);
  json.set("model_type", "supra");
  json.set("tie_word_embeddings", config.tied);
  // transformers 5 reads dtype, transformers 4 torch_dtype
  json.set("dtype", torch_name(dtype));
  json.set("torch_dtype", torch_name(dtype));
  json.set("use_cache", true);
  json.set("supra", describe(config));
  return json;
}

}  // namespace supra
