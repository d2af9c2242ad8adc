#include <algorithm>
#include <cmath>
#include <cstdlib>

#include "supra/formats/parse/json.h"
#include "supra/formats/parse/utf8.h"
#include "tensor/error.h"

// Writes JSON.

namespace supra {

static void write_string(std::string& out, std::string_view text) {
  out += '"';
  for (size_t at = 0, size; at < text.size(); at += std::max<size_t>(1, size)) {
    size = utf8_length(text.substr(at, 4));
    const char c = text[at];
    // JSON is UTF-8: other bytes become the replacement character
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
  // the shortest text that is read back as this number; std::to_chars would add 128 kB to the static program
  char text[32];
  for (int digits = 15; digits <= 17; digits++) {
    snprintf(text, sizeof text, "%.*g", digits, value);
    if (strtod(text, nullptr) == value) break;
  }
  // a host's locale may have another decimal point, even of several bytes
  std::string digits;
  for (const char* c = text; *c; c++) {
    if (std::string_view("0123456789+-e").find(*c) != std::string_view::npos)
      digits += *c;
    else if (!digits.ends_with('.'))
      digits += '.';
  }
  out += digits;
  // a double with an integer value is read back as a double
  if (digits.find_first_of(".e") == std::string::npos) out += ".0";
}

void Json::write(std::string& out, int depth, bool indented) const {
  auto new_line = [&](int deep) {
    if (indented) out.append("\n").append(2 * deep, ' ');
  };
  // a container: elements separated by commas, each on its own line if indented
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
  switch (type_) {
    case Type::null: out += "null"; break;
    case Type::boolean: out += as_bool() ? "true" : "false"; break;
    case Type::integer: out += std::to_string(as_integer()); break;
    case Type::real: write_number(out, as_number()); break;
    case Type::string: write_string(out, as_string()); break;
    case Type::array: container('[', ']', as_array(), [&](const Json& e) { e.write(out, depth + 1, indented); }); break;
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
