#include "supra/tokenizers/tokenizer.h"

#include <algorithm>
#include <cstring>

#include "supra/tokenizers/gguf_vocabulary.h"
#include "supra/tokenizers/tokenizer_config.h"
#include "supra/tokenizers/tokenizer_json.h"
#include "tensor/error.h"

namespace supra {

Tokenizer::Tokenizer(const char* kind, int32_t size, Marks marks)
    : kind_(kind), size_(size), marks_(std::move(marks)) {
  if (marks_.bos_in_front && marks_.front.empty()) marks_.front = {marks_.bos};
  if (marks_.eos_behind && marks_.behind.empty()) marks_.behind = {marks_.eos};
  std::vector<int32_t> ends;
  marks_.ends.insert(marks_.ends.begin(), marks_.eos);
  for (const int32_t id : marks_.ends) {
    if (id >= 0 && id < size && std::find(ends.begin(), ends.end(), id) == ends.end()) ends.push_back(id);
  }
  marks_.ends = std::move(ends);
}

std::vector<int32_t> Tokenizer::encode(std::string_view text, EncodeOptions options) const {
  std::vector<int32_t> ids = encode_text(text, options);
  if (!options.add_special) return ids;
  ids.insert(ids.begin(), marks_.front.begin(), marks_.front.end());
  ids.insert(ids.end(), marks_.behind.begin(), marks_.behind.end());
  return ids;
}

std::string Tokenizer::decode(std::span<const int32_t> ids, bool show_special) const {
  std::string text;
  bool first = true;
  for (const int32_t id : ids) {
    const std::string part = show_special && is_special(id) ? mark_text(id) : piece(id, first);
    text += part;
    first = first && is_special(id) && part.empty();
  }
  return text;
}

std::string Tokenizer::piece(int32_t id, bool first) const {
  return is_special(id) ? std::string() : piece_text(id, first);
}

bool Tokenizer::is_special(int32_t id) const {
  CHECK(id >= 0 && id < size_, "tokenizer: id %d is not in the vocabulary of %d (%s; is it the model's own tokenizer?)", id, size_, kind_);
  return is_mark(id);
}

bool Tokenizer::is_end(int32_t id) const {
  return id >= 0 && (id == marks_.bos || std::find(marks_.ends.begin(), marks_.ends.end(), id) != marks_.ends.end());
}

int32_t Tokenizer::special_id(std::string_view text) const {
  const std::vector<int32_t> ids = encode(text, {.parse_special = true, .continues = true});
  return ids.size() == 1 && is_special(ids[0]) ? ids[0] : -1;
}

Tokenizer::DocumentMarks Tokenizer::document_marks() const {
  const bool separates = marks_.bos_separates || marks_.eos < 0 || marks_.bos == marks_.eos;
  // A BOS that does not separate documents begins them only if prompts begin with it too: the BOS of ChatML is <|im_start|>,
  // which begins a message.
  const int32_t begin = separates || marks_.bos_in_front ? marks_.bos : -1;
  return {begin, separates ? marks_.bos : marks_.eos};
}

namespace fs = std::filesystem;

using Loaded = std::shared_ptr<const Tokenizer>;

// A llama2.c checkpoint has the same ending as its tokenizer. Its second number is a width or a version below 2^23, which would
// be a denormal as the score of a tokenizer. A zip is a file of PyTorch.
static bool is_checkpoint(std::string_view bytes) {
  if (bytes.size() < 8) return false;
  uint32_t second;
  memcpy(&second, bytes.data() + 4, sizeof second);
  return bytes.starts_with("PK") || (second != 0 && second < (1u << 23));
}

// Reads a tokenizer; null if the file is something else, presumably a model.
static Loaded read_tokenizer(const ModelFiles& files, const std::string& name) {
  const std::string ending = Path(name).extension().string();
  if (ending == ".bytes") return make_byte_tokenizer();
  // such as tokenizer.model.v3
  const bool versioned = name.find(".model.v") != name.npos;
  if (ending != ".json" && ending != ".model" && ending != ".bin" && !versioned) return nullptr;
  const MappedFile file = files.open(name);
  const std::string where = file.path().string();
  if (ending == ".json") return make_json_tokenizer(file, files);
  if (ending != ".bin") return make_sentencepiece_tokenizer(file.text(), where, read_tokenizer_config(files));
  return is_checkpoint(file.text()) ? nullptr : make_llama2c_tokenizer(file.text(), where);
}

static Loaded read_tokenizer(const Path& path) {
  if (path.extension() == ".gguf") return make_gguf_tokenizer(path);
  return read_tokenizer(Folder(path.has_parent_path() ? path.parent_path() : Path(".")), path.filename().string());
}

Loaded load_tokenizer(const std::string& what) {
  if (what == "bytes") return make_byte_tokenizer();
  if (const size_t comma = what.find(','); comma != what.npos)
    return make_gpt2_tokenizer(MappedFile(what.substr(0, comma)), MappedFile(what.substr(comma + 1)));
  CHECK(fs::exists(what), "%s: there is no such tokenizer (give a file, a folder with one, or the word bytes)", what.c_str());
  Loaded tokenizer = fs::is_directory(what) ? nullptr : read_tokenizer(what);
  if (!tokenizer) tokenizer = find_tokenizer(what);
  CHECK(tokenizer,
        "%s: has no tokenizer.json, vocab.json with merges.txt, tok*.bin, tok*.model or vocabulary in a GGUF (%s)", what.c_str(),
        kNameTokenizer);
  return tokenizer;
}

// The only file with this beginning and ending; empty if there is none.
static std::string only_file(const ModelFiles& files, std::string_view beginning, std::string_view ending) {
  std::string found;
  for (const std::string& name : files.names()) {
    if (!name.starts_with(beginning) || !name.ends_with(ending)) continue;
    const Path& folder = files.path();
    CHECK(found.empty(), "%s and %s: which is the tokenizer? (%s)", (folder / found).c_str(),
          (folder / name).c_str(), kNameTokenizer);
    found = name;
  }
  return found;
}

// All kinds other than tokenizer.json, in the order of tokenizer.h.
static Loaded find_other(const ModelFiles& files) {
  const std::string vocabulary = only_file(files, "", "vocab.json"), merges = only_file(files, "", "merges.txt");
  if (!vocabulary.empty() && !merges.empty()) return make_gpt2_tokenizer(files.open(vocabulary), files.open(merges));
  for (const char* ending : {".bytes", ".bin", ".model"}) {
    if (const std::string found = only_file(files, "tok", ending); !found.empty()) return read_tokenizer(files, found);
  }
  return nullptr;
}

Loaded find_tokenizer(const ModelFiles& files) {
  if (!files.has("tokenizer.json")) return find_other(files);
  try {
    return read_tokenizer(files, "tokenizer.json");
  } catch (const Error&) {
    if (Loaded other = find_other(files)) return other;
    throw;
  }
}

Loaded find_tokenizer(const Path& model) {
  const auto files = files_of(model);
  std::string gguf;
  if (fs::is_directory(model)) gguf = only_file(*files, "", ".gguf");
  if (model.extension() == ".gguf") gguf = model.filename().string();
  if (Loaded own = gguf.empty() ? nullptr : make_gguf_tokenizer(files->path() / gguf)) return own;
  return find_tokenizer(*files);
}

void copy_tokenizer(const Tokenizer& tokenizer, const Path& directory) {
  for (const auto& [name, bytes] : tokenizer.files()) {
    FileWriter file(directory / name);
    file.write(bytes);
    file.finish();
  }
}

}  // namespace supra
