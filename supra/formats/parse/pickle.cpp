#include "supra/formats/parse/pickle.h"

#include <algorithm>
#include <bit>
#include <iterator>

namespace supra {

constexpr size_t kMostBytes = size_t{16} << 20;
constexpr uint32_t kEmpty = ~uint32_t{0};  // a place of the memo
static_assert(sizeof(PickleValue) == 16);

Pickle::Pickle(std::string_view bytes, std::string where)
    : bytes_(bytes), where_(std::move(where)), in_(bytes_, where_) {
  CHECK(bytes.size() <= kMostBytes,
        "%s: has %zu bytes, at most %zu are read (save the weights alone: torch.save(model.state_dict(), ...))",
        where_.c_str(), bytes.size(), kMostBytes);
  for (uint8_t opcode = 0; opcode != '.'; step(opcode)) {
    at_ = in_.at();
    opcode = in_.number<uint8_t>("an opcode");
  }
}

void Pickle::refuse(const std::string& what) const {
  fail("%s: %s at byte %zu", where_.c_str(), what.c_str(), at_);
}

std::vector<uint32_t> Pickle::items(const PickleValue& container, uint32_t most) const {
  std::vector<uint32_t> items(std::min(container.size, most));
  uint32_t link = container.chain.first;
  for (uint32_t& item : items) {
    item = links_[link].value;
    link = links_[link].next;
  }
  return items;
}

const PickleValue* Pickle::find(const PickleValue& dict, std::string_view key) const {
  const std::vector<uint32_t> all = items(dict);
  for (size_t i = 0; i < all.size(); i += 2) {
    const PickleValue& name = at(all[i]);
    if (name.kind == PickleValue::text && name.str() == key) return &at(all[i + 1]);
  }
  return nullptr;
}

PickleValue& Pickle::push(PickleValue::Kind kind) {
  stack_.push_back(static_cast<uint32_t>(values_.size()));
  PickleValue& value = values_.emplace_back();
  value.kind = kind;
  return value;
}

void Pickle::push_integer(int64_t number, PickleValue::Kind kind) { push(kind).number = number; }

void Pickle::push_text(std::string_view text) {
  PickleValue& value = push(PickleValue::text);
  value.data = text.data();
  value.size = static_cast<uint32_t>(text.size());
}

// Takes nothing from below the last mark.
uint32_t Pickle::pop() {
  if (stack_.size() <= (marks_.empty() ? 0 : marks_.back())) refuse("the stack is empty");
  const uint32_t value = stack_.back();
  stack_.pop_back();
  return value;
}

void Pickle::push_tuple(size_t items) {
  if (stack_.size() - (marks_.empty() ? 0 : marks_.back()) < items) refuse("the stack is empty");
  PickleValue tuple;
  tuple.kind = PickleValue::tuple;
  move_items(items, tuple);
  push(PickleValue::tuple) = tuple;
}

// Moves items from the stack to the end of a container, the last one first, so that the stack shrinks as the chain grows.
void Pickle::move_items(size_t items, PickleValue& container) {
  if (items == 0) return;
  const auto last = static_cast<uint32_t>(links_.size());
  uint32_t first = 0;
  for (size_t i = 0; i < items; i++) {
    links_.push_back({stack_.back(), first});
    first = static_cast<uint32_t>(links_.size()) - 1;
    stack_.pop_back();
  }
  if (container.size == 0)
    container.chain.first = first;
  else
    links_[container.chain.last].next = first;
  container.chain.last = last;
  container.size += static_cast<uint32_t>(items);
}

size_t Pickle::items_since_mark() {
  if (marks_.empty()) refuse("there is no mark");
  const size_t items = stack_.size() - marks_.back();
  marks_.pop_back();
  return items;
}

// Appends the top items of the stack to the list or dict below them.
void Pickle::add_items(PickleValue::Kind kind, size_t items) {
  if (stack_.size() <= (marks_.empty() ? 0 : marks_.back()) + items) refuse("the stack is empty");
  PickleValue& value = values_[stack_[stack_.size() - 1 - items]];
  if (value.kind != kind || (kind == PickleValue::dict && items % 2 != 0)) refuse("items without a list or dict");
  move_items(items, value);
}

std::string_view Pickle::line() {
  const size_t end = bytes_.find('\n', in_.at());
  if (end == bytes_.npos) refuse("a name without an end");
  const std::string_view text = in_.bytes(end - in_.at(), "a name");
  in_.bytes(1, "a name");
  return text;
}

void Pickle::push_global(std::string_view module, std::string_view name) {
  const std::string full = std::string(module) + " " + std::string(name);
  for (size_t i = 0; i < std::size(kPickleGlobals); i++) {
    if (full == kPickleGlobals[i]) return push_integer(static_cast<int64_t>(i), PickleValue::global);
  }
  refuse("calls for " + std::string(module) + "." + std::string(name) + ", which weights do not need,");
}

void Pickle::recall(uint32_t key) {
  if (key >= memo_.size() || memo_[key] == kEmpty) refuse("memo " + std::to_string(key) + " is empty");
  stack_.push_back(memo_[key]);
}

// Python numbers the memo from 0, so a key is smaller than the pickle's size.
void Pickle::memoize(uint32_t key) {
  if (key >= bytes_.size()) refuse("memo " + std::to_string(key) + " is beyond the pickle's size");
  const uint32_t value = pop();
  if (key >= memo_.size()) memo_.resize(key + 1, kEmpty);
  memo_[key] = value;
  stack_.push_back(value);
}

void Pickle::reduce() {
  const uint32_t arguments = pop();
  const PickleValue &tuple = at(arguments), &callee = at(pop());
  const std::string name = callee.kind == PickleValue::global ? kPickleGlobals[callee.number] : "no function";
  if (tuple.kind == PickleValue::tuple) {
    if (name == "collections OrderedDict" && tuple.size == 0) {
      push(PickleValue::dict);
      return;
    }
    if (name == "torch._utils _rebuild_tensor_v2") return push_integer(arguments, PickleValue::tensor);
    if ((name == "torch._utils _rebuild_parameter" || name == "torch Size") && tuple.size > 0)
      return stack_.push_back(links_[tuple.chain.first].value);
  }
  refuse("a call of " + name + " with unknown arguments");
}

// An integer of up to 8 bytes; the sign fills the missing ones.
void Pickle::push_long() {
  const std::string_view digits = in_.bytes(in_.number<uint8_t>("LONG1"), "LONG1");
  if (digits.size() > 8) refuse("an integer of more than 8 bytes");
  uint64_t number = !digits.empty() && static_cast<int8_t>(digits.back()) < 0 ? ~uint64_t{0} : 0;
  memcpy(&number, digits.data(), digits.size());
  push_integer(static_cast<int64_t>(number));
}

void Pickle::step(uint8_t opcode) {
  using V = PickleValue;
  switch (opcode) {
    case 0x80: return void(in_.bytes(1, "PROTO"));
    case 0x95: return void(in_.bytes(8, "FRAME"));
    case '.': return void(root_ = pop());
    case '(': return marks_.push_back(static_cast<uint32_t>(stack_.size()));
    case 'N': return void(push(V::none));
    case 0x88: return push_integer(1, V::boolean);
    case 0x89: return push_integer(0, V::boolean);
    case 'K': return push_integer(in_.number<uint8_t>("BININT1"));
    case 'M': return push_integer(in_.number<uint16_t>("BININT2"));
    case 'J': return push_integer(in_.number<int32_t>("BININT"));
    case 0x8a: return push_long();
    // the only big-endian number
    case 'G': return void(push(V::real).fraction = std::bit_cast<double>(__builtin_bswap64(in_.number<uint64_t>("BINFLOAT"))));
    case 'X': return push_text(in_.bytes(in_.number<uint32_t>("BINUNICODE"), "BINUNICODE"));
    case 0x8c: return push_text(in_.bytes(in_.number<uint8_t>("SHORT_BINUNICODE"), "SHORT_BINUNICODE"));
    case '}': return void(push(V::dict));
    case ']': return void(push(V::list));
    case ')': return push_tuple(0);
    case 0x85: return push_tuple(1);
    case 0x86: return push_tuple(2);
    case 0x87: return push_tuple(3);
    case 't': return push_tuple(items_since_mark());
    case 'a': return add_items(V::list, 1);
    case 'e': return add_items(V::list, items_since_mark());
    case 's': return add_items(V::dict, 2);
    case 'u': return add_items(V::dict, items_since_mark());
    case 'q': return memoize(in_.number<uint8_t>("BINPUT"));
    case 'r': return memoize(in_.number<uint32_t>("LONG_BINPUT"));
    case 0x94: return memoize(static_cast<uint32_t>(memo_.size()));
    case 'h': return recall(in_.number<uint8_t>("BINGET"));
    case 'j': return recall(in_.number<uint32_t>("LONG_BINGET"));
    case 'c': {
      const std::string_view module = line();
      return push_global(module, line());
    }
    case 0x93: {
      const std::string_view name = at(pop()).str();
      return push_global(at(pop()).str(), name);
    }
    case 'R': return reduce();
    case 'Q': return push_integer(pop(), V::storage);
    // attributes of an OrderedDict or a parameter, which weights do not need
    case 'b': return void(pop());
    default: refuse(format("unknown opcode 0x%02x", opcode));
  }
}

}  // namespace supra
