#pragma once
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "supra/formats/file.h"

// JSON (RFC 8259), read strictly and written: config.json, *.index.json, safetensors headers, tokenizer.json, reports. Objects
// keep the order of their members; a repeated key is an error. Integers of 64 bits stay exact, other numbers are doubles. A
// value that was read knows its file and line, for error messages.
//   A value takes 24 bytes, and a container has room for exactly the values that were read. So a text takes at most 20 times its
// size of memory, plus the bytes of its strings.

namespace supra {

class Json {
 public:
  struct Member;  // { key, value }
  // Views of a container's contents, valid until the value changes.
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

  // Reads a text that is one value, with containers at most 200 deep. `where` names the source in errors, which begin
  // "where:line:column: ".
  static Json parse(std::string_view text, const std::string& where);
  static Json load(const Path& path);

  // Each throws Error with `what`, the type found and the type needed.
  bool as_bool(std::string_view what = "value") const;
  int64_t as_integer(std::string_view what = "value") const;
  double as_number(std::string_view what = "value") const;  // also of an integer
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

  // Members of an object. For a key that is absent or null find() returns null and at() throws Error. Both search linearly: to
  // look up many keys, iterate over as_object().
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

  // The value as a text: in one line, or indented by two spaces. Throws Error for a number that is not finite.
  std::string dump(bool indented = false) const;

  // "config.json:12", or "value" if the value was not read from a text.
  std::string where() const;

  // Compares type and content, not the source.
  bool operator==(const Json& other) const;

 private:
  friend class JsonParser;
  enum class Type : uint8_t { null, boolean, integer, real, string, array, object };
  struct Source;  // the name of a source, and how many values refer to it
  static constexpr uint32_t kMostLines = (1 << 28) - 1;

  Json(Type type) : integer_(0), type_(type) {}
  // reserve() gives an empty container room, append() uses it, push_back() grows it if it is full.
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
    std::string* string_;  // null: empty
    Json* elements_;
    Member* members_;
  };
  Source* source_ = nullptr;
  uint32_t line_ : 28 = 0;
  Type type_ : 3 = Type::null;
  uint32_t grown_ : 1 = 0;  // the container's room is size_ rounded up to a power of two, else exactly size_
  uint32_t size_ = 0;       // elements of a container
};

struct Json::Member {
  std::string key;
  Json value;

  bool operator==(const Member&) const = default;
};

}  // namespace supra
