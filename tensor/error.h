#pragma once
#include <stdexcept>
#include <string>

// Errors. Every failure that a user can cause throws Error with one line: where it happened, what was given,
// what was expected and what to do next. assert() is only for bugs in this program.

namespace supra {

struct Error : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// The CPU was about to read memory of the GPU, or the other way round.
struct WrongDevice : Error {
  using Error::Error;
};

// The machine or the GPU has no memory left.
struct OutOfMemory : Error {
  using Error::Error;
};

// Like printf, but returns a string.
std::string format(const char* fmt, ...) __attribute__((format(printf, 1, 2)));

// Throws Error with the formatted message.
[[noreturn]] void fail(const char* fmt, ...) __attribute__((format(printf, 1, 2)));

}  // namespace supra

// CHECK(condition, "linear: weight is %s, input needs (*, %d)", ...): throws Error when the condition is false.
#define CHECK(condition, ...)                       \
  do {                                              \
    if (!(condition)) ::supra::fail(__VA_ARGS__);   \
  } while (0)
