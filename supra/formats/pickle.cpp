#include "supra/formats/pickle.h"

#include <bit>
#include <iterator>

namespace supra {

constexpr size_t kMostBytes = size_t{16} << 20;

Pickle::Pickle(std::string_view bytes, std::string where)
    : bytes_(bytes), where_(std::move(where)), in_(bytes_, where_) {
  CHECK(bytes.size() <= kMostBytes, "%s: has %zu bytes, that of a model has less than %zu", where_.c_str(),
        bytes.size(), kMostBytes);
  do at_ = in_.at();
  while (step(in_.number<uint8_t>("an opcode")));
  root_ = pop();
}

void Pickle::refuse(const std::string& what) const {
  fail("%s: %s at byte %zu", where_.c_str(), what.c_str(), at_);
}

const PickleValue* Pickle::find(const PickleValue& dict, std::string_view key) const {
  for (size_t i = 0; i < dict.items.size(); i += 2) {
    const PickleValue& name = at(dict.items[i]);
    if (name.kind == PickleValue::text && name.str == key) return &at(dict.items[i + 1]);
  }
  return nullptr;
}

void Pickle::push(PickleValue value) {
  stack_.push_back(static_cast<uint32_t>(values_.size()));
  values_.push_back(std::move(value));
}

void Pickle::push_integer(int64_t number, PickleValue::Kind kind) { push({kind, number, 0, {}, {}}); }
void Pickle::push_text(std::string_view text) { push({PickleValue::text, 0, 0, text, {}}); }

// Nothing below the last mark is taken.
uint32_t Pickle::pop() {
  if (stack_.size() <= (marks_.empty() ? 0 : marks_.back())) refuse("the stack is empty");
  const uint32_t value = stack_.back();
  stack_.pop_back();
  return value;
}

void Pickle::push_tuple(size_t items) {
  if (stack_.size() - (marks_.empty() ? 0 : marks_.back()) < items) refuse("the stack is empty");
  PickleValue tuple{PickleValue::tuple, 0, 0, {}, {stack_.end() - static_cast<int64_t>(items), stack_.end()}};
  stack_.resize(stack_.size() - items);
  push(std::move(tuple));
}

size_t Pickle::items_since_mark() {
  if (marks_.empty()) refuse("there is no mark");
  const size_t items = stack_.size() - marks_.back();
  marks_.pop_back();
  return items;
}

// The list or dict below that many items.
PickleValue& Pickle::target(PickleValue::Kind kind, size_t items) {
  if (stack_.size() <= (marks_.empty() ? 0 : marks_.back()) + items) refuse("the stack is empty");
  PickleValue& value = values_[stack_[stack_.size() - 1 - items]];
  if (value.kind != kind || (kind == PickleValue::dict && items % 2 != 0))
    refuse("items for no list or dict");
  value.items.insert(value.items.end(), stack_.end() - static_cast<int64_t>(items), stack_.end());
  stack_.resize(stack_.size() - items);
  return value;
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
  refuse("calls for " + std::string(module) + "." + std::string(name) + ", which is no part of weights,");
}

void Pickle::recall(uint32_t key) {
  const auto found = memo_.find(key);
  if (found == memo_.end()) refuse("memo " + std::to_string(key) + " is empty");
  stack_.push_back(found->second);
}

void Pickle::reduce() {
  const uint32_t arguments = pop();
  const PickleValue &tuple = at(arguments), &callee = at(pop());
  const std::string name = callee.kind == PickleValue::global ? kPickleGlobals[callee.number] : "no function";
  if (tuple.kind == PickleValue::tuple) {
    if (name == "collections OrderedDict" && tuple.items.empty())
      return push({PickleValue::dict, 0, 0, {}, {}});
    if (name == "torch._utils _rebuild_tensor_v2") return push({PickleValue::tensor, 0, 0, {}, {arguments}});
    if ((name == "torch._utils _rebuild_parameter" || name == "torch Size") && !tuple.items.empty())
      return stack_.push_back(tuple.items[0]);
  }
  refuse("a call of " + name + " with arguments that are not known");
}

// False at the end.
bool Pickle::step(uint8_t opcode) {
  using V = PickleValue;
  switch (opcode) {
    case 0x80:
      in_.bytes(1, "PROTO");
      break;
    case 0x95:
      in_.bytes(8, "FRAME");
      break;
    case '.':
      return false;
    case '(':
      marks_.push_back(stack_.size());
      break;
    case 'N':
      push({});
      break;
    case 0x88:
      push_integer(1, V::boolean);
      break;
    case 0x89:
      push_integer(0, V::boolean);
      break;
    case 'K':
      push_integer(in_.number<uint8_t>("BININT1"));
      break;
    case 'M':
      push_integer(in_.number<uint16_t>("BININT2"));
      break;
    case 'J':
      push_integer(in_.number<int32_t>("BININT"));
      break;
    case 0x8a: {
      const std::string_view digits = in_.bytes(in_.number<uint8_t>("LONG1"), "LONG1");
      if (digits.size() > 8) refuse("an integer of more than 8 bytes");
      // the sign fills what is not given
      uint64_t number = !digits.empty() && static_cast<int8_t>(digits.back()) < 0 ? ~uint64_t{0} : 0;
      memcpy(&number, digits.data(), digits.size());
      push_integer(static_cast<int64_t>(number));
      break;
    }
    case 'G':
      // the only big-endian number
      push({V::real, 0, std::bit_cast<double>(__builtin_bswap64(in_.number<uint64_t>("BINFLOAT"))), {}, {}});
      break;
    case 'X':
      push_text(in_.bytes(in_.number<uint32_t>("BINUNICODE"), "BINUNICODE"));
      break;
    case 0x8c:
      push_text(in_.bytes(in_.number<uint8_t>("SHORT_BINUNICODE"), "SHORT_BINUNICODE"));
      break;
    case '}':
      push({V::dict, 0, 0, {}, {}});
      break;
    case ']':
      push({V::list, 0, 0, {}, {}});
      break;
    case ')':
      push_tuple(0);
      break;
    case 0x85:
      push_tuple(1);
      break;
    case 0x86:
      push_tuple(2);
      break;
    case 0x87:
      push_tuple(3);
      break;
    case 't':
      push_tuple(items_since_mark());
      break;
    case 'a':
      target(V::list, 1);
      break;
    case 'e':
      target(V::list, items_since_mark());
      break;
    case 's':
      target(V::dict, 2);
      break;
    case 'u':
      target(V::dict, items_since_mark());
      break;
    case 'q':
    case 'r':
    case 0x94: {
      const uint32_t key = opcode == 'q'   ? in_.number<uint8_t>("BINPUT")
                           : opcode == 'r' ? in_.number<uint32_t>("LONG_BINPUT")
                                           : static_cast<uint32_t>(memo_.size());
      stack_.push_back(memo_[key] = pop());
      break;
    }
    case 'h':
      recall(in_.number<uint8_t>("BINGET"));
      break;
    case 'j':
      recall(in_.number<uint32_t>("LONG_BINGET"));
      break;
    case 'c': {
      const std::string_view module = line();
      push_global(module, line());
      break;
    }
    case 0x93: {
      const std::string_view name = at(pop()).str;
      push_global(at(pop()).str, name);
      break;
    }
    case 'R':
      reduce();
      break;
    case 'Q':
      push({V::storage, 0, 0, {}, {pop()}});
      break;
    // attributes of an OrderedDict or a parameter: none that weights need
    case 'b':
      pop();
      break;
    default:
      refuse(format("unknown opcode 0x%02x", opcode));
  }
  return true;
}

}  // namespace supra
