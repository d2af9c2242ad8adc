#pragma once
#include <cstdint>
#include <deque>
#include <functional>
#include <optional>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "supra/formats/file.h"
#include "tensor/error.h"

// The arguments after `supra <command>`. A command declares each of its flags once, as a variable with a name
// and a line of help. This table parses the arguments, shows the defaults and prints --help. The value of the
// variable at the declaration is the default.
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
// Accepted: --name value, --name=value, -n value, positional words anywhere, and `--` before words that start
// with a dash.

namespace supra {

// Wrong arguments: the program shows the usage line and exits with 2.
struct UsageError : Error {
  using Error::Error;
};

// --help was given: the program prints Args::help() and exits with 0.
struct HelpWanted {};

// Readers of one value; they throw a UsageError that says what was expected. There is an overload for each type
// of flag.
void read_value(const std::string& text, std::string& value);
void read_value(const std::string& text, Path& value);
void read_value(const std::string& text, int& value);
void read_value(const std::string& text, int64_t& value);
void read_value(const std::string& text, uint64_t& value);
void read_value(const std::string& text, float& value);
void read_value(const std::string& text, double& value);
void read_value(const std::string& text, std::vector<int64_t>& value);  // "1,2,3"
// These append: the values of a list flag are collected.
void read_value(const std::string& text, std::vector<std::string>& value);
void read_value(const std::string& text, std::vector<Path>& value);
template <class T>
void read_value(const std::string& text, std::optional<T>& value) {
  read_value(text, value.emplace());
}

// "3M" is 3,000,000: a whole number of tokens, or a decimal one with k, M or G.
int64_t read_token_count(const std::string& text);
std::string show_token_count(int64_t n);

// The default as --help shows it; empty if there is none to show.
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

// One row of the table. The members that return Flag& refine a declaration; the other members are for Args.
class Flag {
 public:
  Flag& required();                // if absent: UsageError
  Flag& at_least(double minimum);  // a smaller number: UsageError
  bool given() const { return given_; }
  const std::string& name() const { return names_[0]; }

 private:
  friend class Args;
  std::vector<std::string> names_;  // "--lines", "-n"; for a positional word its only name, "FILE"
  std::string value_name_;          // empty: a switch
  std::string help_, default_;
  std::function<void(const std::string&)> set_;
  std::function<void()> clear_;        // drops the default of a list when the first value is read
  std::function<double()> as_number_;  // if it is a number, for at_least
  std::optional<double> minimum_;
  bool list_ = false, required_ = false, given_ = false;
};

class Args {
 public:
  Args(std::string command, std::string summary, std::vector<std::string> words);
  std::string command_line() const;  // "supra cut --lines 3 FILE", as given

  // A flag with a value. `names` are separated by spaces, the long name first. T: a string, Path, number,
  // vector of int64 ("1,2,3"), vector of strings or paths (several words, up to the next flag; may be
  // repeated), or optional of these.
  template <class T>
  Flag& flag(T* variable, const char* names, const char* value_name, const char* help) {
    Flag& row = add(names, value_name, help, show_value(*variable));
    bind(row, variable);
    return row;
  }

  // A switch: --json, or the pair --bos and --no-bos if neither is allowed too.
  Flag& flag(bool* variable, const char* names, const char* help);
  Flag& flag(std::optional<bool>* variable, const char* name, const char* help);

  // A number of tokens, for example 3M.
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

  // A word without a flag, in order of declaration. A vector takes all remaining words (at least one if it is
  // required).
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
  // Deques, because a declaration returns a reference that later declarations must not invalidate.
  std::deque<Flag> flags_, positionals_;
};

// The flags of every command: --threads N, and --json for those that report.
void common_flags(Args& args, bool* json = nullptr);

// " (did you mean eval?)" if one of `known` is close to `word`, otherwise "".
std::string nearest_hint(const std::string& word, const std::vector<std::string>& known);

}  // namespace supra
