#include "supra/formats/parse/json.h"

#include <algorithm>
#include <atomic>
#include <bit>
#include <charconv>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <limits>
#include <new>

#include "supra/formats/parse/utf8.h"
#include "tensor/error.h"

namespace supra {

static_assert(sizeof(Json) == 24);

struct Json::Source {
  std::string name;
  std::atomic<uint32_t> values;  // that refer to it
};

// Memory of a value.

void Json::came_from(Source* source, uint32_t line) {
  source->values.fetch_add(1, std::memory_order_relaxed);
  source_ = source;
  line_ = std::min(line, kMostLines);
}

template <class T>
void Json::reserve(T*& block, size_t count) {
  CHECK(count <= std::numeric_limits<uint32_t>::max(), "json: a container of %zu values is too large", count);
  if (count > 0) block = static_cast<T*>(::operator new(count * sizeof(T)));
}

template <class T>
T& Json::append(T*& block) {
  T* const added = new (block + size_) T();
  size_++;
  return *added;
}

template <class T>
T& Json::push_back(T*& block, T value) {
  if (size_ == (grown_ ? std::bit_ceil(size_) : size_)) {
    T *const old = block, *bigger = nullptr;
    reserve(bigger, std::bit_ceil(size_t{size_} + 1));
    std::uninitialized_move_n(old, size_, bigger);
    std::destroy_n(old, size_);
    ::operator delete(old);
    block = bigger;
    grown_ = 1;
  }
  return append(block) = std::move(value);
}

// A value may be moved as bytes, because nothing points to it.
void Json::swap(Json& other) noexcept {
  char bytes[sizeof(Json)];
  memcpy(bytes, static_cast<void*>(this), sizeof bytes);
  memcpy(static_cast<void*>(this), static_cast<void*>(&other), sizeof bytes);
  memcpy(static_cast<void*>(&other), bytes, sizeof bytes);
}

Json::Json(const Json& other) : Json(other.type_) {
  if (other.source_) came_from(other.source_, other.line_);
  switch (type_) {
    case Type::string:
      if (other.string_) string_ = new std::string(*other.string_);
      break;
    case Type::array:
      reserve(elements_, other.size_);
      for (const Json& element : other.as_array()) append(elements_) = element;
      break;
    case Type::object:
      reserve(members_, other.size_);
      for (const Member& member : other.as_object()) append(members_) = member;
      break;
    case Type::real: real_ = other.real_; break;
    case Type::boolean: boolean_ = other.boolean_; break;
    default: integer_ = other.integer_;
  }
}

Json::Json(Json&& other) noexcept : Json() { swap(other); }

Json& Json::operator=(const Json& other) {
  Json copy(other);
  swap(copy);
  return *this;
}

Json& Json::operator=(Json&& other) noexcept {
  Json taken(std::move(other));
  swap(taken);
  return *this;
}

Json::~Json() {
  if (is_string()) delete string_;
  if (is_array()) {
    std::destroy_n(elements_, size_);
    ::operator delete(elements_);
  }
  if (is_object()) {
    std::destroy_n(members_, size_);
    ::operator delete(members_);
  }
  if (source_ && source_->values.fetch_sub(1, std::memory_order_acq_rel) == 1) delete source_;
}

// Reading.

static constexpr size_t kMaxDepth = 200;

// The number of elements of each container, in the order in which they begin, so that each gets exactly that much room. It
// stops at an error that the parser will find; up to there no container has more elements than are counted.
static std::deque<uint32_t> count_elements(std::string_view text) {
  struct Open {
    uint32_t* count;
    bool object;
  };
  std::deque<uint32_t> counts;
  std::vector<Open> open;
  char before = 0;  // the last character other than a space
  for (size_t at = 0; at < text.size(); at++) {
    const char c = text[at];
    if (c == ' ' || c == '\n' || c == '\r' || c == '\t') continue;
    const bool first = before == '[' || before == '{', next = before == ',';
    if (c == ']' || c == '}') {
      if (open.empty()) break;
      open.pop_back();
    } else if (!open.empty() && (first || next)) {
      if (c == ',' || c == ':' || (open.back().object && c != '"')) break;
      ++*open.back().count;
    }
    if (c == '[' || c == '{') {
      if (open.size() == kMaxDepth) break;
      open.push_back({&counts.emplace_back(0), c == '{'});
    }
    if (c == '"') {
      do at += text[at] == '\\' ? 2 : 1;
      while (at < text.size() && text[at] != '"');
    }
    before = c;
  }
  return counts;
}

class JsonParser {
 public:
  JsonParser(std::string_view text, const std::string& where) : text_(text), counts_(count_elements(text)) {
    origin_.came_from(new Json::Source{where, 0}, 0);
  }

  // Open containers are on a separate stack, so nesting takes no C++ stack.
  Json run() {
    Json root;
    std::vector<Open> open;
    Json* slot = &root;
    while (true) {
      skip_space();
      if (peek() == '{' || peek() == '[') {
        if (open.size() == kMaxDepth) complain(format("containers nest deeper than %zu", kMaxDepth));
        const bool object = text_[at_++] == '{';
        open.push_back(begin(*slot, object));
        skip_space();
        if (peek() == (object ? '}' : ']')) {
          at_++;
          open.pop_back();
        } else {
          slot = add_slot(open.back());
          continue;
        }
      } else {
        *slot = scalar();
        slot->came_from(origin_.source_, line_);
      }
      // a value has ended: close the containers that it completes, then go to the next value
      slot = nullptr;
      while (!slot && !open.empty()) {
        skip_space();
        const bool object = open.back().value->is_object();
        if (peek() == ',') {
          at_++;
          skip_space();
          slot = add_slot(open.back());
        } else if (peek() == (object ? '}' : ']')) {
          at_++;
          if (object) check_unique_keys(*open.back().value);
          open.pop_back();
        } else {
          complain(format("expected ',' or '%c', found %s", object ? '}' : ']', found().c_str()));
        }
      }
      if (!slot) break;
    }
    skip_space();
    if (at_ < text_.size()) complain(format("text after the end of the value: %s", found().c_str()));
    return root;
  }

 private:
  // A container, and the room left in it.
  struct Open {
    Json* value;
    size_t room;
  };

  [[noreturn]] void complain(const std::string& message) const {
    const std::string_view before = text_.substr(0, at_);
    const size_t newline = before.rfind('\n');
    const size_t column = newline == std::string_view::npos ? at_ + 1 : at_ - newline;
    fail("%s:%u:%zu: %s", origin_.source_->name.c_str(), line_, column, message.c_str());
  }

  int peek() const { return at_ < text_.size() ? static_cast<uint8_t>(text_[at_]) : -1; }

  std::string found() const {
    const int c = peek();
    if (c < 0) return "the end of the text";
    return c > 0x20 && c < 0x7f ? format("'%c'", c) : format("byte 0x%02x", c);
  }

  void skip_space() {
    for (; at_ < text_.size(); at_++) {
      const char c = text_[at_];
      if (c == '\n')
        line_++;
      else if (c != ' ' && c != '\t' && c != '\r')
        return;
    }
  }

  Open begin(Json& container, bool object) {
    size_t count = 0;
    if (!counts_.empty()) {
      count = counts_.front();
      counts_.pop_front();
    }
    container.came_from(origin_.source_, line_);
    container.type_ = object ? Json::Type::object : Json::Type::array;
    if (object)
      container.reserve(container.members_, count);
    else
      container.reserve(container.elements_, count);
    return {&container, count};
  }

  // Adds the next element of an array, or reads key and colon and adds the next member of an object.
  Json* add_slot(Open& open) {
    Json& container = *open.value;
    const bool room = open.room-- > 0;
    if (container.is_array()) {
      if (!room) complain_of_value();
      return &container.append(container.elements_);
    }
    if (peek() != '"') complain(format("expected a key in quotes, found %s", found().c_str()));
    const std::string key = string();
    skip_space();
    if (peek() != ':')
      complain(format("expected ':' after the key \"%s\", found %s", key.c_str(), found().c_str()));
    at_++;
    CHECK(room, "json: an object has more members than were counted");
    Json::Member& member = container.append(container.members_);
    member.key = key;
    return &member.value;
  }

  void check_unique_keys(const Json& object) const {
    std::vector<std::string_view> keys;
    keys.reserve(object.size_);
    for (const auto& [key, value] : object.as_object()) keys.push_back(key);
    std::sort(keys.begin(), keys.end());
    const auto twice = std::adjacent_find(keys.begin(), keys.end());
    if (twice != keys.end())
      complain(format("the key \"%s\" is repeated in an object", std::string(*twice).c_str()));
  }

  [[noreturn]] void complain_of_value() const {
    complain(format("expected a value, found %s", found().c_str()));
  }

  Json scalar() {
    const int c = peek();
    if (c == '"') return string();
    if (c == '-' || (c >= '0' && c <= '9')) return number();
    if (word("true")) return true;
    if (word("false")) return false;
    if (!word("null")) complain_of_value();
    return {};
  }

  bool word(std::string_view w) {
    if (text_.substr(at_, w.size()) != w) return false;
    at_ += w.size();
    return true;
  }

  size_t digits() {
    const size_t begin = at_;
    while (peek() >= '0' && peek() <= '9') at_++;
    if (at_ == begin) complain(format("expected a digit, found %s", found().c_str()));
    return at_ - begin;
  }

  Json number() {
    const size_t begin = at_;
    if (peek() == '-') at_++;
    const bool zero = peek() == '0';
    if (digits() > 1 && zero) complain("a number has a leading zero");
    bool whole = true;
    if (peek() == '.') {
      whole = false;
      at_++;
      digits();
    }
    if (peek() == 'e' || peek() == 'E') {
      whole = false;
      at_++;
      if (peek() == '+' || peek() == '-') at_++;
      digits();
    }
    const char *first = text_.data() + begin, *last = text_.data() + at_;
    int64_t integer = 0;
    const bool minus_zero = zero && *first == '-';
    if (whole && !minus_zero && std::from_chars(first, last, integer).ec == std::errc()) return integer;
    double real = 0;
#if defined(__cpp_lib_to_chars)
    const bool in_range = std::from_chars(first, last, real).ec == std::errc();
#else
    // libc++ before version 20 has no from_chars for double; strtod depends on the program's locale
    real = strtod(std::string(first, last).c_str(), nullptr);
    const bool in_range = std::isfinite(real);
#endif
    if (!in_range) complain(format("the number %.40s is out of range", std::string(first, last).c_str()));
    return real;
  }

  // Reads a string. The result is valid until the next one is read.
  const std::string& string() {
    std::string& out = string_;
    out.clear();
    at_++;
    while (true) {
      const int c = peek();
      if (c < 0) complain("a string is not closed");
      if (c < 0x20) complain(format("a control character (%s) in a string must be escaped", found().c_str()));
      if (c == '"') break;
      if (c == '\\') {
        escape(out);
        continue;
      }
      const size_t length = utf8_length(text_.substr(at_, 4));
      if (length == 0) complain(format("%s is not valid UTF-8", found().c_str()));
      out.append(text_, at_, length);
      at_ += length;
    }
    at_++;
    return out;
  }

  void escape(std::string& out) {
    static constexpr std::string_view letters = "\"\\/bfnrt", values = "\"\\/\b\f\n\r\t";
    at_++;
    if (peek() == 'u') {
      at_++;
      uint32_t c = hex4();
      if (c >= 0xd800 && c < 0xe000) {
        const bool high = c < 0xdc00 && word("\\u");
        const uint32_t low = high ? hex4() : 0;
        if (low < 0xdc00 || low >= 0xe000) complain(format("\\u%04x is half of a surrogate pair", c));
        c = 0x10000 + ((c - 0xd800) << 10 | (low - 0xdc00));
      }
      append_utf8(out, c);
      return;
    }
    const size_t i = peek() < 0 ? letters.npos : letters.find(static_cast<char>(peek()));
    if (i == letters.npos) complain(format("unknown escape in a string: %s after '\\'", found().c_str()));
    out += values[i];
    at_++;
  }

  uint32_t hex4() {
    const std::string_view digits = text_.substr(at_, 4);
    uint32_t value = 0;
    const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value, 16);
    if (digits.size() < 4 || error != std::errc() || end != digits.data() + 4) {
      complain("\\u needs four hexadecimal digits");
    }
    at_ += 4;
    return value;
  }

  std::string_view text_;
  std::deque<uint32_t> counts_;  // of the containers that have not begun
  Json origin_;                  // refers to the source, like all values
  std::string string_;
  size_t at_ = 0;
  uint32_t line_ = 1;
};

Json Json::parse(std::string_view text, const std::string& where) { return JsonParser(text, where).run(); }

Json Json::load(const Path& path) { return parse(MappedFile(path).text(), path.string()); }

// Access.

const char* Json::type_name() const {
  static const char* names[] = {"null",     "a boolean", "an integer", "a number",
                                "a string", "an array",  "an object"};
  return names[static_cast<int>(type_)];
}

std::string Json::where() const {
  return source_ ? format("%s:%u", source_->name.c_str(), static_cast<unsigned>(line_)) : "value";
}

void Json::wrong_type(std::string_view what, const char* needed) const {
  fail("%s: %s is %s, %s is needed", where().c_str(), std::string(what).c_str(), type_name(), needed);
}

bool Json::as_bool(std::string_view what) const {
  if (!is_bool()) wrong_type(what, "a boolean");
  return boolean_;
}

int64_t Json::as_integer(std::string_view what) const {
  if (!is_integer()) wrong_type(what, "an integer");
  return integer_;
}

double Json::as_number(std::string_view what) const {
  if (is_integer()) return static_cast<double>(integer_);
  if (!is_number()) wrong_type(what, "a number");
  return real_;
}

const std::string& Json::as_string(std::string_view what) const {
  if (!is_string()) wrong_type(what, "a string");
  static const std::string empty;
  return string_ ? *string_ : empty;
}

Json::Array Json::as_array(std::string_view what) const {
  if (!is_array()) wrong_type(what, "an array");
  return {elements_, size_};
}

Json::Object Json::as_object(std::string_view what) const {
  if (!is_object()) wrong_type(what, "an object");
  return {members_, size_};
}

const Json* Json::find(std::string_view key) const {
  for (const auto& [name, value] : as_object()) {
    if (name == key) return value.is_null() ? nullptr : &value;
  }
  return nullptr;
}

const Json& Json::at(std::string_view key) const {
  const Json* value = find(key);
  CHECK(value, "%s: key %s is missing", where().c_str(), std::string(key).c_str());
  return *value;
}

bool Json::flag(std::string_view key, bool otherwise) const { return find(key) ? flag(key) : otherwise; }
int64_t Json::integer(std::string_view key, int64_t otherwise) const { return find(key) ? integer(key) : otherwise; }
double Json::number(std::string_view key, double otherwise) const { return find(key) ? number(key) : otherwise; }
std::string Json::text(std::string_view key, const std::string& otherwise) const { return find(key) ? text(key) : otherwise; }

// Building.

Json::Json(bool value) : boolean_(value), type_(Type::boolean) {}
Json::Json(int value) : Json(int64_t{value}) {}
Json::Json(int64_t value) : integer_(value), type_(Type::integer) {}
Json::Json(double value) : real_(value), type_(Type::real) {}
Json::Json(const char* value) : Json(std::string(value)) {}
Json::Json(std::string value)
    : string_(value.empty() ? nullptr : new std::string(std::move(value))), type_(Type::string) {}

bool Json::operator==(const Json& other) const {
  if (type_ != other.type_) return false;
  switch (type_) {
    case Type::null: return true;
    case Type::boolean: return boolean_ == other.boolean_;
    case Type::integer: return integer_ == other.integer_;
    case Type::real: return real_ == other.real_;
    case Type::string: return as_string() == other.as_string();
    case Type::array: return std::equal(elements_, elements_ + size_, other.elements_, other.elements_ + other.size_);
    default: return std::equal(members_, members_ + size_, other.members_, other.members_ + other.size_);
  }
}

Json Json::array() { return Type::array; }
Json Json::object() { return Type::object; }

Json Json::array(std::vector<Json> elements) {
  Json json(Type::array);
  json.reserve(json.elements_, elements.size());
  for (Json& element : elements) json.append(json.elements_) = std::move(element);
  return json;
}

Json Json::object(std::vector<Member> members) {
  Json json(Type::object);
  json.reserve(json.members_, members.size());
  for (Member& member : members) json.append(json.members_) = std::move(member);
  return json;
}

void Json::set(std::string_view key, Json value) {
  if (!is_object()) wrong_type("value", "an object");
  for (uint32_t i = 0; i < size_; i++) {
    if (members_[i].key != key) continue;
    members_[i].value = std::move(value);
    return;
  }
  push_back(members_, Member{std::string(key), std::move(value)});
}

void Json::push(Json value) {
  if (!is_array()) wrong_type("value", "an array");
  push_back(elements_, std::move(value));
}

}  // namespace supra
