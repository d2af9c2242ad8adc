#pragma once
#include <cstdint>
#include <string>

#include "supra/formats/file.h"

// Formats names, numbers and notes for people.

namespace supra {

std::string format_count(double n);               // 38.3k, 3.00M, 412
std::string format_bytes(double bytes);           // 1.2 MB, powers of 1000
// "32.8 kB a sequence" for recurrent layers, "1.02 kB a token" for softmax, or both: bytes before the first token, and after it
std::string format_state(double at_start, double after_a_token);
std::string format_time(double seconds);          // 1m 20s, 2h 05m, 3.4s, 12ms
std::string format_precise_time(double seconds);  // three digits: 1.84 us, 12.1 ms, 3.40 s

// The name of a model in tables: the last part of its path, without a slash at the end, and for a file without the extension.
std::string model_name(const Path& path);

void print_note(const std::string& note);  // prints "note: ..." on stderr; nothing if it is empty

}  // namespace supra
