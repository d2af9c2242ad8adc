#pragma once
#include <cstdint>
#include <deque>
#include <string>
#include <string_view>
#include <vector>

#include "supra/formats/parse/byte_reader.h"
#include "tensor/dtype.h"

namespace supra {

// A value of a pickle. Values refer to each other by number, so they are shared, not copied; a value may even contain itself,
// and destroying them needs no recursion.
struct PickleValue {
  enum Kind : uint8_t { none, boolean, integer, real, text, tuple, list, dict, global, storage, tensor };
  // The first and last link of a container's items (Pickle::items()).
  struct Chain {
    uint32_t first, last;
  };
  Kind kind = none;
  uint32_t size = 0;  // of a text in bytes; of a tuple, list or dict in items
  union {
    int64_t number = 0;  // boolean, integer; global: its index in kPickleGlobals; storage, tensor: the value that describes it
    double fraction;     // real
    const char* data;    // text
    Chain chain;         // tuple, list, dict
  };

  std::string_view str() const { return kind == text ? std::string_view(data, size) : std::string_view(); }
};

// The only names that a pickle may mention or call. Storages come first.
constexpr const char* kPickleGlobals[] = {
    "torch FloatStorage", "torch HalfStorage", "torch BFloat16Storage", "torch DoubleStorage", "torch LongStorage", "torch IntStorage",
    "torch ShortStorage", "torch CharStorage", "torch ByteStorage", "torch BoolStorage", "torch Size", "collections OrderedDict",
    "torch._utils _rebuild_tensor_v2", "torch._utils _rebuild_parameter"};

// The dtypes of these storages. There is no dtype for the next one, of bool.
constexpr Dtype kTorchStorages[] = {Dtype::f32, Dtype::f16, Dtype::bf16, Dtype::f64, Dtype::i64,
                                    Dtype::i32, Dtype::i16, Dtype::i8,   Dtype::u8};

// Runs the opcodes of a pickle that torch.save() writes for weights (Python's Lib/pickletools.py describes them). Executes
// nothing: a REDUCE makes an empty dict, a tensor of its arguments, or returns its argument. Takes at most 30 times the
// pickle's size of memory: an opcode makes a value of 16 bytes and at most 8 bytes of stack or items, and the memo has at most
// 4 bytes for each byte of the pickle. A pickle has at most 16 MiB; that of a large model has some 100 KB. Throws Error with
// the offset for anything else, naming unknown opcodes and globals.
class Pickle {
 public:
  Pickle(std::string_view bytes, std::string where);

  const PickleValue& root() const { return values_[root_]; }
  const PickleValue& at(uint32_t value) const { return values_[value]; }
  // The first `most` items of a tuple or list, or of a dict as key, value, key, value, ...
  std::vector<uint32_t> items(const PickleValue& container, uint32_t most = ~uint32_t{0}) const;
  // The value of a text key of a dict; null if it has no such key.
  const PickleValue* find(const PickleValue& dict, std::string_view key) const;

 private:
  void step(uint8_t opcode);
  PickleValue& push(PickleValue::Kind kind);
  void push_text(std::string_view text);
  void push_integer(int64_t number, PickleValue::Kind kind = PickleValue::integer);
  void push_long();
  void push_tuple(size_t items);
  void move_items(size_t items, PickleValue& container);
  void push_global(std::string_view module, std::string_view name);
  void recall(uint32_t key);
  void memoize(uint32_t key);
  void reduce();
  uint32_t pop();
  size_t items_since_mark();
  void add_items(PickleValue::Kind kind, size_t items);
  std::string_view line();
  [[noreturn]] void refuse(const std::string& what) const;

  std::string_view bytes_;
  std::string where_;
  ByteReader in_;
  size_t at_ = 0;  // the place of the opcode
  // An item of a container, and the index of the next link.
  struct Link {
    uint32_t value, next;
  };
  // deques grow without a second copy
  std::deque<PickleValue> values_;
  std::deque<Link> links_;
  std::deque<uint32_t> stack_;
  std::deque<uint32_t> marks_;
  std::deque<uint32_t> memo_;
  uint32_t root_ = 0;
};

}  // namespace supra
