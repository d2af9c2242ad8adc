#pragma once
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "supra/formats/model_files.h"

// Tokenizers: text to ids and back. All kinds have one interface. A tokenizer is immutable, so any number of threads may use
// one.

namespace supra {

// The advice of an error about a missing or wrong tokenizer. A host has no flags.
#if defined(SUPRA_EMBED)
inline constexpr char kNameTokenizer[] = "put the right one, alone, beside the model, before it is packed";
#else
inline constexpr char kNameTokenizer[] = "name one with --tokenizer FILE, or --tokenizer bytes";
#endif

struct EncodeOptions {
  // Adds what the tokenizer's own library adds around a text; SentencePiece adds BOS and EOS. (A prompt needs only bos(), and
  // only if adds_bos().)
  bool add_special = false;
  // The text of a special token becomes its id, also for SentencePiece's control pieces, unlike in its library. llama2.c and
  // raw bytes have no such texts.
  bool parse_special = false;
  // The text continues one that was encoded before: no space is put before it.
  bool continues = false;
};

class Tokenizer {
 public:
  virtual ~Tokenizer() = default;
  Tokenizer(const Tokenizer&) = delete;
  Tokenizer& operator=(const Tokenizer&) = delete;

  std::vector<int32_t> encode(std::string_view text, EncodeOptions options = {}) const;

  // The texts of the pieces, without the space that encode() put before the text. Bytes that are not UTF-8 stay as they are
  // (TextStream replaces them). `show_special`: with the texts of special tokens. Throws Error for an id that is not in the
  // vocabulary.
  virtual std::string decode(std::span<const int32_t> ids, bool show_special = false) const;

  // The bytes that one id contributes to decode(); empty if is_special(). `first`: no text is before it.
  std::string piece(int32_t id, bool first = false) const;

  // Whether the id is a mark such as BOS, not text.
  bool is_special(int32_t id) const;

  // The text that becomes this special token with EncodeOptions::parse_special; "" if there is none.
  virtual std::string mark_text(int32_t) const { return ""; }

  // The special token with exactly this text; -1 if there is none.
  int32_t special_id(std::string_view text) const;

  int32_t size() const { return size_; }
  int32_t bos() const { return marks_.bos; }  // -1 if there is none
  int32_t eos() const { return marks_.eos; }  // -1 if there is none
  // All ids that end a text, each once: EOS, and others that the model's files name.
  const std::vector<int32_t>& ends() const { return marks_.ends; }
  // Whether a generated text ends at this id: one of ends(), or BOS, which begins another text.
  bool is_end(int32_t id) const;
  bool adds_bos() const { return marks_.bos_in_front; }  // whether a prompt begins with BOS
  // The marks around a document in training text; -1: none. A generated document also ends with `end`.
  struct DocumentMarks {
    int32_t begin = -1, end = -1;
  };
  DocumentMarks document_marks() const;
  const char* kind() const { return kind_; }
  const std::string& chat_template() const { return chat_template_; }  // the Jinja program in its files; "" if there is none

  struct Marks {
    int32_t bos = -1, eos = -1;
    bool bos_in_front = false, eos_behind = false;  // with add_special
    std::vector<int32_t> ends = {};  // besides eos; ids outside the vocabulary are dropped
    bool bos_separates = false;      // in training BOS was between documents, and EOS never
    std::vector<int32_t> front = {}, behind = {};  // what add_special adds, if it is more than BOS and EOS
  };
  struct File {
    std::string name, bytes;
  };
  // What is ignored in its files: nothing that changes ids.
  const std::vector<std::string>& notes() const { return notes_; }
  // What copy_tokenizer() writes, under names that find_tokenizer() recognises.
  virtual std::vector<File> files() const { return files_; }

 protected:
  Tokenizer(const char* kind, int32_t size, Marks marks);

  std::vector<File> files_;
  std::string chat_template_;
  std::vector<std::string> notes_;

 private:
  virtual std::vector<int32_t> encode_text(std::string_view text, EncodeOptions options) const = 0;
  // ids are in the vocabulary
  virtual std::string piece_text(int32_t id, bool first) const = 0;
  virtual bool is_mark(int32_t id) const = 0;

  const char* kind_;
  int32_t size_;
  Marks marks_;
};

// Reads a tokenizer. `what`: its file, or a model's file or folder with a tokenizer in it, or "bytes". Throws Error if there is
// none, and with path and offset if it is damaged.
std::shared_ptr<const Tokenizer> load_tokenizer(const std::string& what);

// The tokenizer in a model's folder, or in the folder of a model's file; null if there is none. The first of these counts:
//   the vocabulary inside the model's file, or inside the only *.gguf of the folder, as it is certainly the model's
//   tokenizer.json
//   vocab.json with merges.txt, or *vocab.json with *merges.txt
//   tok*.bytes   raw bytes; the contents do not matter
//   tok*.bin     llama2.c
//   tok*.model   SentencePiece
// .bin comes before .model because the two differ on runs of spaces and llama2.c uses the former. If tokenizer.json cannot be
// read, the files after it count. Throws Error if two files are equally good, or if only an unsupported kind is there.
std::shared_ptr<const Tokenizer> find_tokenizer(const Path& model);
// The same among files, without vocabularies inside a GGUF.
std::shared_ptr<const Tokenizer> find_tokenizer(const ModelFiles& files);

// Writes the tokenizer's files into an existing directory.
void copy_tokenizer(const Tokenizer& tokenizer, const Path& directory);

// The kinds. Each is read from the bytes of its file; `where` names them in errors.
std::shared_ptr<const Tokenizer> make_byte_tokenizer();
std::shared_ptr<const Tokenizer> make_llama2c_tokenizer(std::string_view bytes, const std::string& where);
std::shared_ptr<const Tokenizer> make_sentencepiece_tokenizer(std::string_view bytes, const std::string& where);

// The same with the files of its folder (tokenizer_config.h). `marks`: a GGUF's, instead of the model's own.
struct TokenizerConfig;
std::shared_ptr<const Tokenizer> make_sentencepiece_tokenizer(std::string_view bytes, const std::string& where, TokenizerConfig beside,
                                                              const Tokenizer::Marks* marks = nullptr);

}  // namespace supra
