#pragma once
#include <cstdint>
#include <deque>
#include <functional>
#include <optional>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "tensor/error.h"
#include "tensor/file.h"

// The words after `supra <command>`. A command declares each of its flags once, as a variable with a name and
// a line of help; that one table parses the words, shows the defaults and prints --help. What the variable
// holds at the declaration is the default.
//
//   int run_cut(Args& args) {
//     Path file;
//     int64_t lines = 10;
//     bool json = false;
//     args.positional(&file, "FILE", "the text to cut");
//     args.flag(&lines, "--lines -n", "N", "lines to keep").at_least(1);
//     common_flags(args, &json);
//     args.parse();
//     ...
//   }
//
// Understood: --name value, --name=value, -n value, positional words anywhere, `--` before words that start
// with a dash.

namespace supra {

// The words were off: the program exits with 2 and shows the usage line.
struct UsageError : Error {
  using Error::Error;
};

// --help was among the words: the program prints Args::help() and exits with 0.
struct HelpWanted {};

// Readers of one value; throw UsageError that says what was expected. They are overloads, one a type a flag
// may have.
void read_value(const std::string& text, std::string& value);
void read_value(const std::string& text, Path& value);
void read_value(const std::string& text, int& value);
void read_value(const std::string& text, int64_t& value);
void read_value(const std::string& text, uint64_t& value);
void read_value(const std::string& text, float& value);
void read_value(const std::string& text, double& value);
void read_value(const std::string& text, std::vector<int64_t>& value);  // "1,2,3"
// Appended: a flag that takes a list collects.
void read_value(const std::string& text, std::vector<std::string>& value);
void read_value(const std::string& text, std::vector<Path>& value);
template <class T>
void read_value(const std::string& text, std::optional<T>& value) {
  read_value(text, value.emplace());
}

// "3M" is 3,000,000: a whole number of tokens, or a decimal one with k, M or G.
int64_t read_token_count(const std::string& text);
std::string show_token_count(int64_t n);

// The default as --help shows it; empty where there is none to show.
std::string show_value(const std::string& value);
std::string show_value(const Path& value);
std::string show_value(int64_t value);
std::string show_value(int value);
std::string show_value(uint64_t value);
std::string show_value(double value);
std::string show_value(float value);
std::string show_value(const std::vector<int64_t>& value);
template <class T>
std::string show_value(const std::vector<T>&) {
  return "";
}
template <class T>
std::string show_value(const std::optional<T>& value) {
  return value ? show_value(*value) : "";
}

// One row of the table. The members that return Flag& refine a declaration; the rest is for Args.
class Flag {
 public:
  Flag& required();                // absent: UsageError
  Flag& at_least(double minimum);  // a smaller number: UsageError
  bool given() const { return given_; }
  const std::string& name() const { return names_[0]; }

 private:
  friend class Args;
  std::vector<std::string> names_;  // "--lines", "-n"; of a positional word its one name, "FILE"
  std::string value_name_;          // empty: a switch
  std::string help_, default_;
  std::function<void(const std::string&)> set_;
  std::function<void()> clear_;        // drops the default of a list when the first value comes
  std::function<double()> as_number_;  // where it is a number, for at_least
  std::optional<double> minimum_;
  bool list_ = false, required_ = false, given_ = false;
};

class Args {
 public:
  Args(std::string command, std::string summary, std::vector<std::string> words);
  std::string command_line() const;  // "supra cut --lines 3 FILE": as it was given

  // A flag with a value. `names` are separated by blanks, the long one first. T: a string, Path, number,
  // vector of int64 ("1,2,3"), vector of strings or paths (several words, up to the next flag; may be
  // repeated), or optional of these.
  template <class T>
  Flag& flag(T* variable, const char* names, const char* value_name, const char* help) {
    Flag& row = add(names, value_name, help, show_value(*variable));
    bind(row, variable);
    return row;
  }

  // A switch: --json, or the pair --bos and --no-bos where it may also be left open.
  Flag& flag(bool* variable, const char* names, const char* help);
  Flag& flag(std::optional<bool>* variable, const char* name, const char* help);

  // A number of tokens, which may be written 3M.
  Flag& tokens(int64_t* variable, const char* names, const char* help);
  Flag& tokens(std::optional<int64_t>* variable, const char* names, const char* help);

  // One of a few words: choice(&mixer, "--mixer", {{"supra", Mixer::supra}, {"gated", Mixer::gated}}, "…").
  template <class T>
  using Options = std::vector<std::pair<std::string, T>>;
  template <class T>
  Flag& choice(T* variable, const char* names, std::type_identity_t<Options<T>> options, const char* help) {
    std::vector<std::string> words;
    std::string shown;
    for (const auto& [word, value] : options) {
      words.push_back(word);
      if (value == *variable) shown = word;
    }
    Flag& row = add(names, joined(words, "|"), help, shown);
    row.set_ = [=](const std::string& text) { *variable = options[one_of(text, words)].second; };
    return row;
  }

  // A flag that calls `set` with its value.
  Flag& call(const char* names, const char* value_name, const char* help, const std::string& shown_default,
             std::function<void(const std::string&)> set);

  // A word without a flag, in order of declaration. A vector takes all that are left (at least one where it
  // is required).
  template <class T>
  Flag& positional(T* variable, const char* name, const char* help) {
    Flag& row = optional_positional(variable, name, help);
    return row.required();
  }
  template <class T>
  Flag& optional_positional(T* variable, const char* name, const char* help) {
    Flag& row = positionals_.emplace_back();
    row.names_ = {name};
    row.help_ = help;
    bind(row, variable);
    return row;
  }

  // Reads the words into the variables. Throws UsageError, or HelpWanted for --help.
  void parse();

  // A usage error found by the command itself, such as two flags that exclude each other.
  [[noreturn]] void misused(const char* fmt, ...) const __attribute__((format(printf, 2, 3)));

  const std::string& command() const { return command_; }
  std::string usage() const;  // "usage: supra cut FILE [flags]"
  std::string help() const;   // everything --help prints

 private:
  template <class T>
  void bind(Flag& row, T* variable) {
    row.set_ = [variable](const std::string& text) { read_value(text, *variable); };
    if constexpr (std::is_same_v<T, std::vector<std::string>> || std::is_same_v<T, std::vector<Path>>) {
      row.list_ = true;
      row.clear_ = [variable] { variable->clear(); };
    }
    if constexpr (std::is_arithmetic_v<T>) row.as_number_ = [variable] { return double(*variable); };
    if constexpr (std::is_same_v<T, std::optional<int64_t>> || std::is_same_v<T, std::optional<double>>)
      row.as_number_ = [variable] { return double(**variable); };
  }
  Flag& add(const char* names, std::string value_name, const char* help, std::string shown_default);
  Flag* find(const std::string& name);
  bool looks_like_flag(const std::string& word);
  size_t read_flag(size_t at);
  void assign(Flag& row, const std::string& name, const std::string& text);
  [[noreturn]] void unknown_flag(const std::string& name) const;
  static std::string joined(const std::vector<std::string>& words, const char* separator);
  static size_t one_of(const std::string& text, const std::vector<std::string>& words);

  std::string command_, summary_;
  std::vector<std::string> words_;
  // Deques: a declaration hands out a reference that later ones must not move.
  std::deque<Flag> flags_, positionals_;
};

// What every command has: --threads N; and --json where it reports.
void common_flags(Args& args, bool* json = nullptr);

// " (did you mean eval?)" when one of `known` is near to `word`, else "".
std::string nearest_hint(const std::string& word, const std::vector<std::string>& known);

}  // namespace supra
