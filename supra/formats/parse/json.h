#pragma once
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "tensor/file.h"

// JSON (RFC 8259), read strictly and written: config.json, *.index.json, safetensors headers, tokenizer.json,
// reports. Objects keep the order of their members; a key that stands twice is an error. Integers of 64 bits
// stay exact, other numbers are doubles. A value that was read knows its file and line, so that every
// complaint about it can name them.
//   A value takes 24 bytes, and a container has room for exactly the values that were read: no text makes
// more than 20 times its size of memory, besides its strings' own bytes.

namespace supra {

class Json {
 public:
  struct Member;  // { key, value }
  // What containers hold: views that end when the value changes or goes.
  using Array = std::span<const Json>;
  using Object = std::span<const Member>;

  Json() : integer_(0) {}  // null
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
  static Json array(std::vector<Json> elements);
  static Json object();
  static Json object(std::vector<Member> members);

  // Reads one value that is the whole text; `where` names the source in errors. Containers nest 200 deep at
  // most. Throws Error "where:line:column: ..." .
  static Json parse(std::string_view text, const std::string& where);
  static Json load(const Path& path);

  // Each throws Error naming `what`, the type found and the type needed.
  bool as_bool(std::string_view what = "value") const;
  int64_t as_integer(std::string_view what = "value") const;
  double as_number(std::string_view what = "value") const;  // an integer will do
  const std::string& as_string(std::string_view what = "value") const;
  Array as_array(std::string_view what = "value") const;
  Object as_object(std::string_view what = "value") const;

  bool is_null() const { return type_ == Type::null; }
  bool is_bool() const { return type_ == Type::boolean; }
  bool is_integer() const { return type_ == Type::integer; }
  bool is_number() const { return is_integer() || type_ == Type::real; }
  bool is_string() const { return type_ == Type::string; }
  bool is_array() const { return type_ == Type::array; }
  bool is_object() const { return type_ == Type::object; }

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
  enum class Type : uint8_t { null, boolean, integer, real, string, array, object };
  struct Source;  // the name of what was read, and how many values know it
  static constexpr uint32_t kMostLines = (1 << 28) - 1;

  Json(Type type) : integer_(0), type_(type) {}
  // An array or object without elements gets room for them; append() takes of it, or grows it.
  template <class T>
  void reserve(T*& block, size_t count);
  template <class T>
  T& append(T*& block);
  template <class T>
  T& push_back(T*& block, T value);
  void came_from(Source* source, uint32_t line);
  void swap(Json& other) noexcept;

  const char* type_name() const;
  [[noreturn]] void wrong_type(std::string_view what, const char* needed) const;
  void write(std::string& out, int depth, bool indented) const;

  union {
    bool boolean_;
    int64_t integer_;
    double real_;
    std::string* string_;  // null: the empty one
    Json* elements_;
    Member* members_;
  };
  Source* source_ = nullptr;
  uint32_t line_ : 28 = 0;
  Type type_ : 3 = Type::null;
  uint32_t grown_ : 1 = 0;  // a container has room for the next power of two of elements, else for `size_`
  uint32_t size_ = 0;       // elements of a container
};

struct Json::Member {
  std::string key;
  Json value;

  bool operator==(const Member&) const = default;
};

}  // namespace supra
