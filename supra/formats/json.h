#pragma once
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "tensor/file.h"

// JSON (RFC 8259), read strictly and written: config.json, *.index.json, safetensors headers, tokenizer.json,
// reports. Objects keep the order of their members; a key that stands twice is an error. Integers of 64 bits
// stay exact, other numbers are doubles. A value that was read knows its file and line, so that every
// complaint about it can name them.

namespace supra {

class Json {
 public:
  struct Member;  // { key, value }
  using Array = std::vector<Json>;
  using Object = std::vector<Member>;

  Json();  // null
  Json(bool value);
  Json(int value);
  Json(int64_t value);
  Json(double value);
  Json(const char* value);
  Json(std::string value);
  Json(const Json&);
  Json(Json&&) noexcept;
  Json& operator=(const Json&);
  Json& operator=(Json&&) noexcept;
  ~Json();
  static Json array();
  static Json array(Array elements);
  static Json object();
  static Json object(Object members);

  // Reads one value that is the whole text; `where` names the source in errors. Containers nest 200 deep at
  // most. Throws Error "where:line:column: ..." .
  static Json parse(std::string_view text, const std::string& where);
  static Json load(const Path& path);

  // Each throws Error naming `what`, the type found and the type needed.
  bool as_bool(std::string_view what = "value") const;
  int64_t as_integer(std::string_view what = "value") const;
  double as_number(std::string_view what = "value") const;  // an integer will do
  const std::string& as_string(std::string_view what = "value") const;
  const Array& as_array(std::string_view what = "value") const;
  const Object& as_object(std::string_view what = "value") const;

  bool is_null() const { return std::holds_alternative<std::monostate>(value_); }
  bool is_bool() const { return std::holds_alternative<bool>(value_); }
  bool is_integer() const { return std::holds_alternative<int64_t>(value_); }
  bool is_number() const { return is_integer() || std::holds_alternative<double>(value_); }
  bool is_string() const { return std::holds_alternative<std::string>(value_); }
  bool is_array() const { return std::holds_alternative<Array>(value_); }
  bool is_object() const { return std::holds_alternative<Object>(value_); }

  // Members of an object. find() gives nullptr for a key that is absent or null; at() throws Error for it. A
  // look-up walks the members: walk as_object() yourself where there are thousands.
  const Json* find(std::string_view key) const;
  const Json& at(std::string_view key) const;
  bool flag(std::string_view key) const { return at(key).as_bool(key); }
  int64_t integer(std::string_view key) const { return at(key).as_integer(key); }
  double number(std::string_view key) const { return at(key).as_number(key); }
  const std::string& text(std::string_view key) const { return at(key).as_string(key); }
  // The same with a default for a key that is absent or null.
  bool flag(std::string_view key, bool otherwise) const;
  int64_t integer(std::string_view key, int64_t otherwise) const;
  double number(std::string_view key, double otherwise) const;
  std::string text(std::string_view key, const std::string& otherwise) const;

  // Building: adds or replaces a member; adds an element.
  void set(std::string_view key, Json value);
  void push(Json value);

  // The text of the value: in one line, or with an indent of two spaces. Throws Error for a number that is
  // not finite.
  std::string dump(bool indented = false) const;

  // "config.json:12", or "value" for one that was not read.
  std::string where() const;

  // Same type and content, wherever they were read.
  bool operator==(const Json& other) const;

 private:
  friend class JsonParser;
  const char* type_name() const;
  [[noreturn]] void wrong_type(std::string_view what, const char* needed) const;
  void write(std::string& out, int depth, bool indented) const;

  std::variant<std::monostate, bool, int64_t, double, std::string, Array, Object> value_;
  std::shared_ptr<const std::string> source_;
  uint32_t line_ = 0;
};

struct Json::Member {
  std::string key;
  Json value;

  bool operator==(const Member&) const = default;
};

}  // namespace supra
