#pragma once
#include "nn/config.h"
#include "supra/formats/weights/gguf.h"

namespace supra {

// What the metadata of a GGUF model say, by llama.cpp's conventions: "<architecture>.block_count" and so on. Known
// architectures: llama, qwen2, qwen3, olmo2, gptneox, gpt2. Throws Error naming the key for everything that changes the
// computation and is not supported.
Config read_gguf_config(const Gguf& file);

}  // namespace supra
