#pragma once
#include <cstdint>
#include <deque>
#include <string>
#include <string_view>
#include <vector>

#include "supra/formats/parse/byte_reader.h"
#include "tensor/dtype.h"

namespace supra {

// What a pickle holds. Values refer to others by number, so they are shared and never copied, may even hold
// themselves, and nothing recurses when they go.
struct PickleValue {
  enum Kind : uint8_t { none, boolean, integer, real, text, tuple, list, dict, global, storage, tensor };
  // Where the chain of a container's items begins and ends (Pickle::items()).
  struct Chain {
    uint32_t first, last;
  };
  Kind kind = none;
  uint32_t size = 0;  // text: its bytes; tuple, list, dict: the items
  union {
    int64_t number = 0;  // boolean, integer; global: its place in kPickleGlobals; storage, tensor: the value
                         // that describes it
    double fraction;     // real
    const char* data;    // text
    Chain chain;         // tuple, list, dict
  };

  std::string_view str() const { return kind == text ? std::string_view(data, size) : std::string_view(); }
};

// The only names a pickle may call or mention: the storages in front, whose places are PickleValue::number.
constexpr const char* kPickleGlobals[] = {"torch FloatStorage",
                                          "torch HalfStorage",
                                          "torch BFloat16Storage",
                                          "torch DoubleStorage",
                                          "torch LongStorage",
                                          "torch IntStorage",
                                          "torch ShortStorage",
                                          "torch CharStorage",
                                          "torch ByteStorage",
                                          "torch BoolStorage",
                                          "torch Size",
                                          "collections OrderedDict",
                                          "torch._utils _rebuild_tensor_v2",
                                          "torch._utils _rebuild_parameter"};

// What those storages hold; the one behind them, of bool, is none of ours.
constexpr Dtype kTorchStorages[] = {Dtype::f32, Dtype::f16, Dtype::bf16, Dtype::f64, Dtype::i64,
                                    Dtype::i32, Dtype::i16, Dtype::i8,   Dtype::u8};

// Runs a pickle (Python's Lib/pickletools.py describes the opcodes) as far as torch.save() of weights needs
// it; nothing is executed. A REDUCE makes an empty dict, a tensor of its arguments, or gives back what it was
// given. Takes at most 30 times the pickle's size of memory: an opcode makes one value of 16 bytes, and a
// place on the stack or an item of a container, of 8 bytes at most; the memo has 4 bytes for each byte of the
// pickle at most; and the blocks of these lists take some more. A pickle has at most 16 MiB: a big model's is
// some 100 KB. Throws Error with the offset for everything else, and for unknown opcodes and globals by name.
class Pickle {
 public:
  Pickle(std::string_view bytes, std::string where);

  const PickleValue& root() const { return values_[root_]; }
  const PickleValue& at(uint32_t value) const { return values_[value]; }
  // Of a tuple or list, its items; of a dict, key, value, key, value, ... The first `most` of them.
  std::vector<uint32_t> items(const PickleValue& container, uint32_t most = ~uint32_t{0}) const;
  // The value of a text key of a dict; nullptr where there is none.
  const PickleValue* find(const PickleValue& dict, std::string_view key) const;

 private:
  bool step(uint8_t opcode);
  PickleValue& push(PickleValue::Kind kind);
  void push_text(std::string_view text);
  void push_integer(int64_t number, PickleValue::Kind kind = PickleValue::integer);
  void push_tuple(size_t items);
  void move_items(size_t items, PickleValue& container);
  void push_global(std::string_view module, std::string_view name);
  void recall(uint32_t key);
  void memoize(uint32_t key);
  void reduce();
  uint32_t pop();
  size_t items_since_mark();
  void target(PickleValue::Kind kind, size_t items);
  std::string_view line();
  [[noreturn]] void refuse(const std::string& what) const;

  std::string_view bytes_;
  std::string where_;
  ByteReader in_;
  size_t at_ = 0;  // of the opcode
  // An item of a container, and the one after it.
  struct Link {
    uint32_t value, next;
  };
  // deques: they grow without a second copy
  std::deque<PickleValue> values_;
  std::deque<Link> links_;
  std::deque<uint32_t> stack_;
  std::deque<uint32_t> marks_;
  std::deque<uint32_t> memo_;
  uint32_t root_ = 0;
};

}  // namespace supra
