#pragma once
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "nn/decoder.h"
#include "supra/formats/fingerprint.h"
#include "supra/tokenizers/tokenizer.h"
#include "tensor/file.h"

namespace supra {

// A decoder with its weights, and the tokenizer that stood beside it.
struct Model {
  std::shared_ptr<Decoder> decoder;
  std::shared_ptr<const Tokenizer> tokenizer;  // null where none was found, or none that can be read
  std::string tokenizer_problem;               // why, in the latter case
  std::string format;                          // what it was read from: "safetensors (openlm)", "llama2.c v0", ...
  std::vector<std::string> notes;              // what reading it converted or left aside
  Fingerprint fingerprint;                     // of what was read: states are saved with it
  bool folded = false;                         // Weights::folded changed its parameters: it cannot be saved

  const Config& config() const { return decoder->config(); }
};

// An empty decoder of this shape, with the mixers its config names.
std::shared_ptr<Decoder> make_decoder(const Config& config);

// Positions that a model of this shape knows: its context where a layer keeps softmax attention, for beyond it no position
// was ever trained; 0: any number, all layers are recurrent or nothing is said.
int64_t position_limit(const Config& config);

enum class Weights {
  trainable,  // f32 copies
  stored,     // for inference: matrices as they stand in the file, mapped and read-only; vectors and feature maps in f32
  folded,     // stored, then Decoder::fold()
};

// Reads a model from whatever holds it (formats/model_source.h). Throws Error when a tensor is missing, has another shape
// or holds a NaN. `tokenizer`: a file, a folder, "bytes", or "" for the one beside the model, if there is one.
Model load_model(const Path& path, const std::string& tokenizer = "", Weights weights = Weights::trainable);

// The same from a packed model in memory (formats/packed_model.h), which stays there as long as the decoder; its weights are
// used in place where they are stored, or folded.
Model load_model(const MappedFile& packed, Weights weights);

// Stores the matrices of a decoder, but for feature maps, as `dtype`: f32, f16, bf16, q8_0, q4_0 or q4_1. Such a model
// computes without gradients. Returns the names of those that became bf16 since their rows are no multiple of 32.
std::vector<std::string> quantize(Decoder& decoder, Dtype dtype);

// Moves a decoder that will only run. Where activations are bf16, so are its f32 matrices from then on: products would
// round them each time. Such a model is not the one that was read, and is not to be saved.
void place_for_inference(Decoder& decoder, Device device, Dtype activations);

// Reads the weights of another model of the same shape into a decoder.
void load_weights(const Path& path, Decoder& decoder);

// The model's tokenizer; throws Error saying how to name one if there is none.
const Tokenizer& tokenizer_of(const Model& model);

// Writes config.json, model.safetensors and the tokenizer's files into a directory that exists. Without a dtype each tensor
// keeps its own.
void write_model(const Model& model, const Path& directory, std::optional<Dtype> dtype = Dtype::f32);

// The same into a directory that appears when it is complete.
void save_model(const Model& model, const Path& directory, std::optional<Dtype> dtype = Dtype::f32);

}  // namespace supra
