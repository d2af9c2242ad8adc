#pragma once
#include <stdexcept>
#include <string>

// Errors. Every failure a user can cause throws Error with one line that says where, what was given,
// what was expected and what to do next. assert() is kept for bugs of our own.

namespace supra {

struct Error : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// Memory of the GPU was to be read by the CPU, or the other way round.
struct WrongDevice : Error {
  using Error::Error;
};

// There is no memory left, of the machine or of the GPU.
struct OutOfMemory : Error {
  using Error::Error;
};

// printf into a string.
std::string format(const char* fmt, ...) __attribute__((format(printf, 1, 2)));

// Throws Error with the formatted message.
[[noreturn]] void fail(const char* fmt, ...) __attribute__((format(printf, 1, 2)));

}  // namespace supra

// CHECK(condition, "linear: weight is %s, input needs (*, %d)", ...): throws Error when the condition is false.
#define CHECK(condition, ...)                       \
  do {                                              \
    if (!(condition)) ::supra::fail(__VA_ARGS__);   \
  } while (0)
