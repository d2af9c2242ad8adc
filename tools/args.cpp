#include "tools/args.h"

#include <algorithm>
#include <cctype>
#include <cerrno>
#include <cmath>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <limits>

#include "tensor/cores.h"
#include "tensor/parallel.h"

namespace supra {
namespace {

[[noreturn]] void usage_error(const std::string& text) { throw UsageError(text); }

// strtoll, strtoull or strtod over the whole of `text`.
template <class T, class Convert>
T whole_number(const std::string& text, const char* expected, Convert convert) {
  char* end = nullptr;
  errno = 0;
  const T value = convert(text.c_str(), &end);
  const bool blank = text.empty() || isspace(static_cast<unsigned char>(text[0]));
  if (blank || end != text.c_str() + text.size() || errno == ERANGE)
    usage_error("'" + text + "' is not " + expected);
  return value;
}

// The edit distance of two words (insert, drop, replace, swap neighbours).
int edit_distance(const std::string& a, const std::string& b) {
  std::vector<std::vector<int>> d(a.size() + 1, std::vector<int>(b.size() + 1));
  for (size_t i = 0; i <= a.size(); ++i) {
    for (size_t j = 0; j <= b.size(); ++j) {
      if (i == 0 || j == 0) {
        d[i][j] = int(i + j);
        continue;
      }
      d[i][j] = std::min({d[i - 1][j] + 1, d[i][j - 1] + 1, d[i - 1][j - 1] + (a[i - 1] != b[j - 1])});
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
        d[i][j] = std::min(d[i][j], d[i - 2][j - 2] + 1);
    }
  }
  return d[a.size()][b.size()];
}

std::vector<std::string> split(const std::string& text, const char* separators) {
  std::vector<std::string> parts;
  for (size_t at = text.find_first_not_of(separators); at != std::string::npos;) {
    const size_t end = std::min(text.find_first_of(separators, at), text.size());
    parts.push_back(text.substr(at, end - at));
    at = text.find_first_not_of(separators, end);
  }
  return parts;
}

}  // namespace

void read_value(const std::string& text, std::string& value) { value = text; }

void read_value(const std::string& text, Path& value) {
  if (text.empty()) usage_error("an empty word is no path");
  value = text;
}

void read_value(const std::string& text, int64_t& value) {
  value = whole_number<int64_t>(text, "a whole number", [](auto s, auto end) { return strtoll(s, end, 10); });
}

void read_value(const std::string& text, int& value) {
  int64_t wide = 0;
  read_value(text, wide);
  if (wide < std::numeric_limits<int>::min() || wide > std::numeric_limits<int>::max())
    usage_error("'" + text + "' is too large");
  value = int(wide);
}

void read_value(const std::string& text, uint64_t& value) {
  const char* expected = "a whole number, 0 or more";
  if (text.find('-') != std::string::npos) usage_error("'" + text + "' is not " + expected);
  value = whole_number<uint64_t>(text, expected, [](auto s, auto end) { return strtoull(s, end, 10); });
}

void read_value(const std::string& text, double& value) {
  value = whole_number<double>(text, "a number", [](auto s, auto end) { return strtod(s, end); });
  if (!std::isfinite(value)) usage_error("'" + text + "' is not a finite number");
}

void read_value(const std::string& text, float& value) {
  double wide = 0;
  read_value(text, wide);
  value = float(wide);
}

void read_value(const std::string& text, std::vector<int64_t>& value) {
  value.clear();
  for (const std::string& part : split(text, ", \t\n")) read_value(part, value.emplace_back());
}

void read_value(const std::string& text, std::vector<std::string>& value) { value.push_back(text); }

void read_value(const std::string& text, std::vector<Path>& value) { read_value(text, value.emplace_back()); }

int64_t read_token_count(const std::string& text) {
  const std::string suffixes = "kMG";
  const size_t suffix = text.empty() ? std::string::npos : suffixes.find(text.back());
  double scale = 1, number = 0;
  if (suffix != std::string::npos) scale = std::pow(1000.0, double(suffix + 1));
  const std::string digits = suffix == std::string::npos ? text : text.substr(0, text.size() - 1);
  const bool plain = !digits.empty() && digits.find_first_not_of("0123456789.") == std::string::npos;
  if (plain) read_value(digits, number);
  const double count = std::round(number * scale);
  if (!plain || std::abs(count - number * scale) > 1e-6 * scale || count > 9e15)
    usage_error("'" + text + "' is not a number of tokens (such as 3000000, 3M or 1.5G)");
  return int64_t(count);
}

std::string show_token_count(int64_t n) {
  for (const auto& [scale, suffix] : {std::pair{1000000000, "G"}, {1000000, "M"}, {1000, "k"}})
    if (n != 0 && n % scale == 0) return std::to_string(n / scale) + suffix;
  return std::to_string(n);
}

std::string show_value(const std::string& value) { return value; }
std::string show_value(const Path& value) { return value.string(); }
std::string show_value(int64_t value) { return std::to_string(value); }
std::string show_value(int value) { return std::to_string(value); }
std::string show_value(uint64_t value) { return std::to_string(value); }
std::string show_value(double value) { return format("%g", value); }
std::string show_value(float value) { return format("%g", double(value)); }

std::string show_value(const std::vector<int64_t>& value) {
  std::string text;
  for (int64_t v : value) text += (text.empty() ? "" : ",") + std::to_string(v);
  return text;
}

Flag& Flag::required() {
  required_ = true;
  return *this;
}

Flag& Flag::at_least(double minimum) {
  minimum_ = minimum;
  return *this;
}

Args::Args(std::string command, std::string summary, std::vector<std::string> words)
    : command_(std::move(command)), summary_(std::move(summary)), words_(std::move(words)) {}

std::string Args::command_line() const {
  std::string line = "supra " + command_;
  for (const std::string& word : words_) line += word.find(' ') == word.npos ? " " + word : " '" + word + "'";
  return line;
}

Flag& Args::add(const char* names, std::string value_name, const char* help, std::string shown_default) {
  std::vector<std::string> spelled = split(names, " ");
  for (const std::string& name : spelled)
    CHECK(!find(name), "%s: %s is declared twice", command_.c_str(), names);
  Flag& row = flags_.emplace_back();
  row.names_ = std::move(spelled);
  row.value_name_ = std::move(value_name);
  row.help_ = help;
  row.default_ = std::move(shown_default);
  return row;
}

Flag& Args::flag(bool* variable, const char* names, const char* help) {
  Flag& row = add(names, "", help, "");
  row.set_ = [variable](const std::string&) { *variable = true; };
  return row;
}

Flag& Args::flag(std::optional<bool>* variable, const char* name, const char* help) {
  const std::string no = std::string("--no-") + (name + 2);
  Flag& row = add((name + (" " + no)).c_str(), "", help, "");
  row.set_ = [variable, no](const std::string& spelled) { *variable = spelled != no; };
  return row;
}

Flag& Args::tokens(int64_t* variable, const char* names, const char* help) {
  Flag& row = add(names, "N", help, show_token_count(*variable));
  bind(row, variable);
  row.set_ = [variable](const std::string& text) { *variable = read_token_count(text); };
  return row;
}

Flag& Args::tokens(std::optional<int64_t>* variable, const char* names, const char* help) {
  Flag& row = add(names, "N", help, *variable ? show_token_count(**variable) : "");
  bind(row, variable);
  row.set_ = [variable](const std::string& text) { *variable = read_token_count(text); };
  return row;
}

Flag& Args::call(const char* names, const char* value_name, const char* help,
                 const std::string& shown_default, std::function<void(const std::string&)> set) {
  Flag& row = add(names, value_name, help, shown_default);
  row.set_ = std::move(set);
  return row;
}

Flag* Args::find(const std::string& name) {
  for (Flag& row : flags_)
    if (std::find(row.names_.begin(), row.names_.end(), name) != row.names_.end()) return &row;
  return nullptr;
}

// A single dash is a word (stdin), and so is a negative number.
bool Args::looks_like_flag(const std::string& word) {
  return word.size() > 1 && word[0] == '-' && !isdigit(static_cast<unsigned char>(word[1])) && word[1] != '.';
}

void Args::parse() {
  size_t next = 0;
  bool flags_over = false;
  for (size_t i = 0; i < words_.size();) {
    const std::string& word = words_[i];
    if (!flags_over && word == "--") {
      flags_over = true;
      ++i;
    } else if (!flags_over && looks_like_flag(word)) {
      i = read_flag(i);
    } else {
      if (next == positionals_.size()) usage_error("'" + word + "' is one word too many");
      Flag& row = positionals_[next];
      assign(row, row.names_[0], word);
      if (!row.list_) ++next;
      ++i;
    }
  }
  for (const auto* rows : {&positionals_, &flags_})
    for (const Flag& row : *rows)
      if (row.required_ && !row.given_) usage_error(row.names_[0] + " is missing: " + row.help_);
}

// Reads the flag at words_[at] with its values; returns the index of the next word.
size_t Args::read_flag(size_t at) {
  const std::string& word = words_[at];
  if (word == "--help" || word == "-h") throw HelpWanted{};
  const size_t equals = word.find('=');
  const std::string name = word.substr(0, equals);
  Flag* row = find(name);
  if (!row) unknown_flag(name);
  if (row->value_name_.empty()) {
    if (equals != std::string::npos) usage_error(name + " takes no value");
    assign(*row, name, name);
    return at + 1;
  }
  if (equals != std::string::npos) {
    assign(*row, name, word.substr(equals + 1));
    return at + 1;
  }
  // A value may start with a dash, as a prompt might, but the name of another flag probably means that the value was forgotten.
  if (at + 1 == words_.size() || find(words_[at + 1].substr(0, words_[at + 1].find('='))))
    usage_error(name + " needs a value, " + row->value_name_);
  assign(*row, name, words_[at + 1]);
  at += 2;
  while (row->list_ && at < words_.size() && !looks_like_flag(words_[at])) assign(*row, name, words_[at++]);
  return at;
}

void Args::assign(Flag& row, const std::string& name, const std::string& text) {
  if (!row.given_ && row.clear_) row.clear_();
  row.given_ = true;
  try {
    row.set_(text);
  } catch (const UsageError& error) {
    usage_error(name + ": " + error.what());
  }
  if (row.minimum_ && row.as_number_() < *row.minimum_)
    usage_error(
        format("%s: %s is too small, at least %g is expected", name.c_str(), text.c_str(), *row.minimum_));
}

void Args::unknown_flag(const std::string& name) const {
  std::vector<std::string> known = {"--help"};
  for (const Flag& row : flags_) known.insert(known.end(), row.names_.begin(), row.names_.end());
  usage_error("unknown flag " + name + nearest_hint(name, known));
}

void Args::misused(const char* fmt, ...) const {
  char text[512];
  va_list list;
  va_start(list, fmt);
  vsnprintf(text, sizeof text, fmt, list);
  va_end(list);
  usage_error(text);
}

std::string Args::usage() const {
  std::string text = "usage: supra " + command_;
  for (const Flag& row : positionals_) {
    const std::string name = row.names_[0] + (row.list_ ? "..." : "");
    text += row.required_ ? " " + name : " [" + name + "]";
  }
  for (const Flag& row : flags_)
    if (row.required_) text += " " + row.names_[0] + " " + row.value_name_ + (row.list_ ? "..." : "");
  return text + " [flags]";
}

std::string Args::help() const {
  // The left column of a row, then its help. A left part that is too wide gets a separate line.
  constexpr size_t kLeft = 30;
  const auto row_text = [](std::string left, const std::string& help) {
    left = "  " + left;
    const std::string gap =
        left.size() + 2 <= kLeft ? std::string(kLeft - left.size(), ' ') : "\n" + std::string(kLeft, ' ');
    return left + gap + help + "\n";
  };
  std::string text = "supra " + command_ + ": " + summary_ + "\n\n" + usage() + "\n\n";
  for (const Flag& row : positionals_) text += row_text(row.names_[0] + (row.list_ ? "..." : ""), row.help_);
  for (const Flag& row : flags_) {
    // The short name comes first.
    std::vector<std::string> names(row.names_.rbegin(), row.names_.rend());
    if (row.value_name_.empty()) names = row.names_;
    std::string left = joined(names, ", ");
    if (!row.value_name_.empty()) left += " " + row.value_name_ + (row.list_ ? "..." : "");
    text += row_text(left, row.help_ + (row.default_.empty() ? "" : " (default " + row.default_ + ")"));
  }
  return text + row_text("--help", "this text");
}

std::string Args::joined(const std::vector<std::string>& words, const char* separator) {
  std::string text;
  for (const std::string& word : words) text += (text.empty() ? "" : separator) + word;
  return text;
}

size_t Args::one_of(const std::string& text, const std::vector<std::string>& words) {
  const auto found = std::find(words.begin(), words.end(), text);
  if (found == words.end())
    usage_error("'" + text + "' is not one of " + joined(words, ", ") + nearest_hint(text, words));
  return size_t(found - words.begin());
}

void common_flags(Args& args, bool* json) {
  args.call("--threads", "N", "threads to use", std::to_string(usable_cores().count),
            [](const std::string& text) {
              int n = 0;
              read_value(text, n);
              if (n < 1 || n > 4096) throw UsageError("'" + text + "' is not a number of threads from 1 to 4096");
              set_threads(n);
            });
  if (json) args.flag(json, "--json", "one JSON object on stdout and nothing else");
}

std::string nearest_hint(const std::string& word, const std::vector<std::string>& known) {
  // With more than a third of the letters wrong it is another word, not a typo.
  int best = int(word.size()) / 3 + 1;
  std::string nearest;
  for (const std::string& candidate : known) {
    const int distance = edit_distance(word, candidate);
    if (distance < best || (distance == best && nearest.empty())) {
      best = distance;
      nearest = candidate;
    }
  }
  return nearest.empty() ? "" : " (did you mean " + nearest + "?)";
}

}  // namespace supra
