#include "supra/formats/json.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdlib>

#include "supra/formats/utf8.h"
#include "tensor/error.h"

namespace supra {

// Reading.

class JsonParser {
 public:
  JsonParser(std::string_view text, const std::string& where)
      : text_(text), source_(std::make_shared<const std::string>(where)) {}

  // The containers that are still open stand on a stack of ours, so depth costs no C++ stack. A pointer to
  // one stays valid: what holds it grows only after it is closed.
  Json run() {
    Json root;
    std::vector<Json*> open;
    Json* slot = &root;
    while (true) {
      skip_space();
      slot->source_ = source_;
      slot->line_ = line_;
      if (peek() == '{' || peek() == '[') {
        if (open.size() == kMaxDepth) complain(format("containers nest deeper than %zu", kMaxDepth));
        const bool object = text_[at_++] == '{';
        if (object)
          slot->value_ = Json::Object();
        else
          slot->value_ = Json::Array();
        open.push_back(slot);
        skip_space();
        if (peek() == (object ? '}' : ']')) {
          at_++;
          open.pop_back();
        } else {
          slot = add_slot(*open.back());
          continue;
        }
      } else {
        scalar(*slot);
      }
      // a value has just ended: close what it completes, then go to the next one
      slot = nullptr;
      while (!slot && !open.empty()) {
        skip_space();
        const bool object = open.back()->is_object();
        if (peek() == ',') {
          at_++;
          skip_space();
          slot = add_slot(*open.back());
        } else if (peek() == (object ? '}' : ']')) {
          at_++;
          if (object) check_unique_keys(*open.back());
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
  static constexpr size_t kMaxDepth = 200;

  [[noreturn]] void complain(const std::string& message) const {
    const std::string_view before = text_.substr(0, at_);
    const size_t newline = before.rfind('\n');
    const size_t column = newline == std::string_view::npos ? at_ + 1 : at_ - newline;
    fail("%s:%u:%zu: %s", source_->c_str(), line_, column, message.c_str());
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

  // Room for the next element of an array, or for the next member of an object after its key and colon.
  Json* add_slot(Json& container) {
    if (auto* elements = std::get_if<Json::Array>(&container.value_)) return &elements->emplace_back();
    if (peek() != '"') complain(format("expected a key in quotes, found %s", found().c_str()));
    std::string key = string();
    skip_space();
    if (peek() != ':')
      complain(format("expected ':' after the key \"%s\", found %s", key.c_str(), found().c_str()));
    at_++;
    Json::Member& member = std::get<Json::Object>(container.value_).emplace_back();
    member.key = std::move(key);
    return &member.value;
  }

  void check_unique_keys(const Json& object) const {
    std::vector<std::string_view> keys;
    for (const auto& [key, value] : std::get<Json::Object>(object.value_)) keys.push_back(key);
    std::sort(keys.begin(), keys.end());
    const auto twice = std::adjacent_find(keys.begin(), keys.end());
    if (twice != keys.end())
      complain(format("the key \"%s\" stands twice in one object", std::string(*twice).c_str()));
  }

  void scalar(Json& out) {
    const int c = peek();
    if (c == '"')
      out.value_ = string();
    else if (c == '-' || (c >= '0' && c <= '9'))
      number(out);
    else if (word("true"))
      out.value_ = true;
    else if (word("false"))
      out.value_ = false;
    else if (!word("null"))
      complain(format("expected a value, found %s", found().c_str()));
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

  void number(Json& out) {
    const size_t begin = at_;
    if (peek() == '-') at_++;
    const bool zero = peek() == '0';
    if (digits() > 1 && zero) complain("a number begins with a needless zero");
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
    if (whole && !minus_zero && std::from_chars(first, last, integer).ec == std::errc()) {
      out.value_ = integer;
      return;
    }
    double real = 0;
    if (std::from_chars(first, last, real).ec != std::errc()) {
      complain(format("the number %.40s is out of range", std::string(first, last).c_str()));
    }
    out.value_ = real;
  }

  std::string string() {
    std::string out;
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
      if (length == 0) complain(format("%s is no valid UTF-8", found().c_str()));
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
  std::shared_ptr<const std::string> source_;
  size_t at_ = 0;
  uint32_t line_ = 1;
};

Json Json::parse(std::string_view text, const std::string& where) { return JsonParser(text, where).run(); }

Json Json::load(const Path& path) { return parse(MappedFile(path).text(), path.string()); }

// Access.

const char* Json::type_name() const {
  static const char* names[] = {"null",     "a boolean", "an integer", "a number",
                                "a string", "an array",  "an object"};
  return names[value_.index()];
}

std::string Json::where() const { return source_ ? format("%s:%u", source_->c_str(), line_) : "value"; }

void Json::wrong_type(std::string_view what, const char* needed) const {
  fail("%s: %s is %s, %s is needed", where().c_str(), std::string(what).c_str(), type_name(), needed);
}

bool Json::as_bool(std::string_view what) const {
  if (!is_bool()) wrong_type(what, "a boolean");
  return std::get<bool>(value_);
}

int64_t Json::as_integer(std::string_view what) const {
  if (!is_integer()) wrong_type(what, "an integer");
  return std::get<int64_t>(value_);
}

double Json::as_number(std::string_view what) const {
  if (is_integer()) return static_cast<double>(std::get<int64_t>(value_));
  if (!is_number()) wrong_type(what, "a number");
  return std::get<double>(value_);
}

const std::string& Json::as_string(std::string_view what) const {
  if (!is_string()) wrong_type(what, "a string");
  return std::get<std::string>(value_);
}

const Json::Array& Json::as_array(std::string_view what) const {
  if (!is_array()) wrong_type(what, "an array");
  return std::get<Array>(value_);
}

const Json::Object& Json::as_object(std::string_view what) const {
  if (!is_object()) wrong_type(what, "an object");
  return std::get<Object>(value_);
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

bool Json::flag(std::string_view key, bool otherwise) const {
  const Json* value = find(key);
  return value ? value->as_bool(key) : otherwise;
}

int64_t Json::integer(std::string_view key, int64_t otherwise) const {
  const Json* value = find(key);
  return value ? value->as_integer(key) : otherwise;
}

double Json::number(std::string_view key, double otherwise) const {
  const Json* value = find(key);
  return value ? value->as_number(key) : otherwise;
}

std::string Json::text(std::string_view key, const std::string& otherwise) const {
  const Json* value = find(key);
  return value ? value->as_string(key) : otherwise;
}

// Building and writing.

Json::Json() = default;
Json::Json(bool value) : value_(value) {}
Json::Json(int value) : value_(int64_t{value}) {}
Json::Json(int64_t value) : value_(value) {}
Json::Json(double value) : value_(value) {}
Json::Json(const char* value) : value_(std::string(value)) {}
Json::Json(std::string value) : value_(std::move(value)) {}
Json::Json(const Json&) = default;
Json::Json(Json&&) noexcept = default;
Json& Json::operator=(const Json&) = default;
Json& Json::operator=(Json&&) noexcept = default;
Json::~Json() = default;

bool Json::operator==(const Json& other) const { return value_ == other.value_; }

Json Json::array() { return array(Array()); }
Json Json::object() { return object(Object()); }

Json Json::array(Array elements) {
  Json json;
  json.value_ = std::move(elements);
  return json;
}

Json Json::object(Object members) {
  Json json;
  json.value_ = std::move(members);
  return json;
}

void Json::set(std::string_view key, Json value) {
  if (!is_object()) wrong_type("value", "an object");
  auto& members = std::get<Object>(value_);
  for (auto& member : members) {
    if (member.key == key) {
      member.value = std::move(value);
      return;
    }
  }
  Member& member = members.emplace_back();
  member.key = key;
  member.value = std::move(value);
}

void Json::push(Json value) {
  if (!is_array()) wrong_type("value", "an array");
  std::get<Array>(value_).push_back(std::move(value));
}

static void write_string(std::string& out, std::string_view text) {
  out += '"';
  for (size_t at = 0, size; at < text.size(); at += std::max<size_t>(1, size)) {
    size = utf8_length(text.substr(at, 4));
    const char c = text[at];
    // JSON is UTF-8: any other byte becomes the replacement character
    if (size != 1)
      out += size == 0 ? "\ufffd" : text.substr(at, size);
    else if (c == '"' || c == '\\')
      (out += '\\') += c;
    else if (c == '\n')
      out += "\\n";
    else if (c == '\t')
      out += "\\t";
    else if (static_cast<uint8_t>(c) < 0x20)
      out += format("\\u%04x", c);
    else
      out += c;
  }
  out += '"';
}

static void write_number(std::string& out, double value) {
  CHECK(std::isfinite(value), "json: %f cannot be written, JSON has finite numbers only", value);
  // the shortest of these that is this number again; std::to_chars would weigh 128 kB in the static program
  char text[32];
  for (int digits = 15; digits <= 17; digits++) {
    snprintf(text, sizeof text, "%.*g", digits, value);
    if (strtod(text, nullptr) == value) break;
  }
  // a host's locale may have another decimal point, of several bytes even
  std::string digits;
  for (const char* c = text; *c; c++) {
    if (std::string_view("0123456789+-e").find(*c) != std::string_view::npos)
      digits += *c;
    else if (!digits.ends_with('.'))
      digits += '.';
  }
  out += digits;
  // keeps a whole double a double when it is read again
  if (digits.find_first_of(".e") == std::string::npos) out += ".0";
}

void Json::write(std::string& out, int depth, bool indented) const {
  auto new_line = [&](int deep) {
    if (indented) out.append("\n").append(2 * deep, ' ');
  };
  // one container: its elements apart by commas, each on a line of its own where it is indented
  auto container = [&](char open, char close, const auto& elements, auto write_element) {
    out += open;
    for (size_t i = 0; i < elements.size(); i++) {
      if (i > 0) out += indented ? "," : ", ";
      new_line(depth + 1);
      write_element(elements[i]);
    }
    if (!elements.empty()) new_line(depth);
    out += close;
  };
  switch (value_.index()) {
    case 0:
      out += "null";
      break;
    case 1:
      out += as_bool() ? "true" : "false";
      break;
    case 2:
      out += std::to_string(as_integer());
      break;
    case 3:
      write_number(out, as_number());
      break;
    case 4:
      write_string(out, as_string());
      break;
    case 5:
      container('[', ']', as_array(), [&](const Json& e) { e.write(out, depth + 1, indented); });
      break;
    default:
      container('{', '}', as_object(), [&](const Member& member) {
        write_string(out, member.key);
        out += ": ";
        member.value.write(out, depth + 1, indented);
      });
  }
}

std::string Json::dump(bool indented) const {
  std::string out;
  write(out, 0, indented);
  return out;
}

}  // namespace supra
