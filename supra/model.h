#pragma once
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "nn/decoder.h"
#include "supra/formats/file.h"
#include "supra/formats/fingerprint.h"
#include "supra/tokenizers/tokenizer.h"

namespace supra {

// A decoder with its weights, and the tokenizer found beside it.
struct Model {
  std::shared_ptr<Decoder> decoder;
  std::shared_ptr<const Tokenizer> tokenizer;  // null if none was found or it cannot be read
  std::string tokenizer_problem;               // why it cannot be read
  std::string format;                          // the format of the file: "safetensors (openlm)", "llama2.c v0", ...
  std::vector<std::string> notes;              // what was converted or ignored while reading
  Fingerprint fingerprint;                     // identifies the model; saved states contain it
  bool folded = false;                         // Weights::folded changed its parameters: it cannot be saved

  const Config& config() const { return decoder->config(); }
};

// An empty decoder of this shape, with the mixers its config names.
std::shared_ptr<Decoder> make_decoder(const Config& config);

// The context, beyond which a model with softmax layers was not trained. 0: no limit, or the context is not known.
int64_t position_limit(const Config& config);

enum class Weights {
  trainable,  // f32 copies
  stored,     // for inference: matrices as stored in the file, memory-mapped and read-only; vectors and feature maps in f32
  folded,     // stored, then Decoder::fold()
};

// Reads a model from any supported file or folder (formats/model_source.h), or throws Error.
// `tokenizer`: a file, a folder, "bytes", or "" for the one beside the model, if there is one.
Model load_model(const Path& path, const std::string& tokenizer = "", Weights weights = Weights::trainable);

// The same from a packed model in memory (formats/packed_model.h), which must stay there as long as the decoder. With `stored`
// and `folded` its weights are used in place.
Model load_model(const MappedFile& packed, Weights weights);

// Converts the matrices of a decoder, except feature maps, to `dtype`: f32, f16, bf16, q8_0, q4_0 or q4_1. Such a model has no
// gradients. Returns the names of matrices that became bf16 instead, because their rows are not a multiple of 32.
std::vector<std::string> quantize(Decoder& decoder, Dtype dtype);

// Moves a decoder to a device for inference. With bf16 activations its f32 matrices become bf16 too: do not save such a model.
void place_for_inference(Decoder& decoder, Device device, Dtype activations);

// Reads the weights of another model of the same shape into a decoder.
void load_weights(const Path& path, Decoder& decoder);

// The model's tokenizer; throws Error saying how to name one if there is none.
const Tokenizer& tokenizer_of(const Model& model);

// Writes config.json, model.safetensors and the tokenizer's files into a directory. Without a dtype each tensor keeps its own.
void write_model(const Model& model, const Path& directory, std::optional<Dtype> dtype = Dtype::f32);

// The same into a new directory, which appears only when it is complete.
void save_model(const Model& model, const Path& directory, std::optional<Dtype> dtype = Dtype::f32);

}  // namespace supra
