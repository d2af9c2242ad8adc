#include "tools/human.h"

#include <cmath>
#include <cstdio>

#include "tensor/error.h"

namespace supra {
namespace {

// `value` with three digits and a suffix. Each suffix stands for a thousand times the one before.
std::string scaled(double value, const char* const (&suffixes)[5]) {
  int step = 0;
  while (step < 4 && std::abs(value) >= 999.5) {
    value /= 1000;
    ++step;
  }
  const double size = std::abs(value);
  const int decimals = size >= 99.95 || (step == 0 && value == std::floor(value)) ? 0 : size >= 9.995 ? 1 : 2;
  return format("%.*f%s", decimals, value, suffixes[step]);
}

}  // namespace

std::string format_count(double n) { return scaled(n, {"", "k", "M", "G", "T"}); }

std::string format_bytes(double bytes) { return scaled(bytes, {" B", " kB", " MB", " GB", " TB"}); }

std::string format_state(double at_start, double after_a_token) {
  std::string text;
  if (at_start > 0) text = format_bytes(at_start) + " a sequence";
  if (const double token = after_a_token - at_start; token > 0) text += (text.empty() ? "" : " and ") + format_bytes(token) + " a token";
  return text;
}

std::string format_time(double seconds) {
  if (!std::isfinite(seconds)) return "?";
  if (seconds < 0.9995) return format("%.0fms", seconds * 1000);
  if (seconds < 9.95) return format("%.1fs", seconds);
  const auto whole = int64_t(std::llround(seconds));
  if (whole < 60) return format("%ds", int(whole));
  if (whole < 3600) return format("%dm %02ds", int(whole / 60), int(whole % 60));
  return format("%lldh %02dm", static_cast<long long>(whole / 3600), int(whole % 3600 / 60));
}

std::string format_precise_time(double seconds) { return scaled(seconds * 1e9, {" ns", " us", " ms", " s", "k s"}); }

std::string model_name(const Path& path) {
  if (!std::filesystem::is_directory(path)) return path.stem().string();
  return std::filesystem::weakly_canonical(path / ".").filename().string();
}

void print_note(const std::string& note) {
  if (!note.empty()) fprintf(stderr, "note: %s\n", note.c_str());
}

}  // namespace supra
