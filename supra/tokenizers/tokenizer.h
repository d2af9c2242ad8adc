#pragma once
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "supra/formats/model_files.h"

// Tokenizers: text to ids and back. All kinds stand behind one class; a tokenizer is immutable, so any number
// of threads may use one.

namespace supra {

// What helps where no tokenizer is found, or another one than was meant: a host has no flags.
#if defined(SUPRA_EMBED)
inline constexpr char kNameTokenizer[] = "put the right one, alone, beside the model, before it is packed";
#else
inline constexpr char kNameTokenizer[] = "name one with --tokenizer FILE, or --tokenizer bytes";
#endif

struct EncodeOptions {
  // Puts around the text what the tokenizer's own library puts there: SentencePiece BOS and EOS. (A prompt
  // wants bos() alone, where adds_bos().)
  bool add_special = false;
  // The text of a special token becomes its id, SentencePiece's control pieces too, though its library never
  // does that. llama2.c and raw bytes have no such texts.
  bool parse_special = false;
  // The text goes on from one that was encoded before: no space is put in front of it.
  bool continues = false;
};

class Tokenizer {
 public:
  virtual ~Tokenizer() = default;
  Tokenizer(const Tokenizer&) = delete;
  Tokenizer& operator=(const Tokenizer&) = delete;

  std::vector<int32_t> encode(std::string_view text, EncodeOptions options = {}) const;

  // The pieces in a row, without the space that encode() put in front of the text. Bytes that are no UTF-8
  // come out as they are; TextStream makes text of them. Special tokens that have a text are shown where it
  // is asked for. Throws Error for an id that is not in the vocabulary.
  virtual std::string decode(std::span<const int32_t> ids, bool show_special = false) const;

  // The bytes that one id contributes to decode(), empty where is_special(). `first`: no text stands before
  // it.
  std::string piece(int32_t id, bool first = false) const;

  // A mark such as BOS, which is no text.
  bool is_special(int32_t id) const;

  // The text that EncodeOptions::parse_special makes this special token of; "" where there is none.
  virtual std::string mark_text(int32_t) const { return ""; }

  // The special token that this is the text of; -1 where there is none, or the text holds more.
  int32_t special_id(std::string_view text) const;

  int32_t size() const { return size_; }
  int32_t bos() const { return marks_.bos; }             // -1 where there is none
  int32_t eos() const { return marks_.eos; }             // -1 where there is none
  // All ids that end a text, each once: EOS, and those that the model's files name beside it.
  const std::vector<int32_t>& ends() const { return marks_.ends; }
  // Whether a text ends where a model chooses this id: one of ends(), or BOS, which begins another text.
  bool is_end(int32_t id) const;
  bool adds_bos() const { return marks_.bos_in_front; }  // whether a prompt begins with BOS
  // The marks around a document in training text, -1 where there is none. A generated document ends with `end`
  // too.
  struct DocumentMarks {
    int32_t begin = -1, end = -1;
  };
  DocumentMarks document_marks() const;
  const char* kind() const { return kind_; }
  const std::string& chat_template() const {
    return chat_template_;
  }  // as its files have it; "" where there is none

  struct Marks {
    int32_t bos = -1, eos = -1;
    bool bos_in_front = false, eos_behind = false;  // with add_special
    std::vector<int32_t> ends = {};                 // beside eos; those outside of the vocabulary are dropped
    bool bos_separates = false;  // models of this tokenizer saw BOS between documents, and never EOS
    std::vector<int32_t> front = {}, behind = {};  // what add_special puts there, where it is more than those
  };
  struct File {
    std::string name, bytes;
  };
  // What was left out of its files though it is known: nothing that changes ids here.
  const std::vector<std::string>& notes() const { return notes_; }
  // What copy_tokenizer() writes: under these names find_tokenizer() knows them again.
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

// Reads a tokenizer. `what` is its file, or a model's file or folder where it stands beside the weights, or
// "bytes". Throws Error where there is none, and naming path and offset where it is damaged.
std::shared_ptr<const Tokenizer> load_tokenizer(const std::string& what);

// The tokenizer that stands in a model's folder, or in the folder of a model's file; null if none does. The
// first of these counts:
//   the vocabulary inside the model's file, or inside the one *.gguf of the folder: it is the model's own
//   tokenizer.json
//   vocab.json with merges.txt, or *vocab.json with *merges.txt
//   tok*.bytes   raw bytes: the name says all
//   tok*.bin     llama2.c
//   tok*.model   SentencePiece
// .bin before .model, for the two differ on runs of spaces and a llama2.c model is run with the former.
// A tokenizer.json that cannot be read gives way to what comes after it, if anything does. Throws Error
// where two files are equally good, and where only a kind is there that is not supported.
std::shared_ptr<const Tokenizer> find_tokenizer(const Path& model);
// The same among files; vocabularies inside a GGUF apart.
std::shared_ptr<const Tokenizer> find_tokenizer(const ModelFiles& files);

// Writes the tokenizer's files into a directory that exists.
void copy_tokenizer(const Tokenizer& tokenizer, const Path& directory);

// The kinds. Each is read from the bytes of its file; `where` names them in errors.
std::shared_ptr<const Tokenizer> make_byte_tokenizer();
std::shared_ptr<const Tokenizer> make_llama2c_tokenizer(std::string_view bytes, const std::string& where);
std::shared_ptr<const Tokenizer> make_sentencepiece_tokenizer(std::string_view bytes,
                                                              const std::string& where);

// The same with what stands beside it (tokenizer_config.h). `marks`: a GGUF's, instead of the model's own.
struct TokenizerConfig;
std::shared_ptr<const Tokenizer> make_sentencepiece_tokenizer(std::string_view bytes,
                                                              const std::string& where,
                                                              TokenizerConfig beside,
                                                              const Tokenizer::Marks* marks = nullptr);

}  // namespace supra
