#include "tools/progress.h"

#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>

#include "tensor/error.h"
#include "tools/human.h"

namespace supra {
namespace {

double since(std::chrono::steady_clock::time_point then) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - then).count();
}

// The columns of the terminal. A longer line would wrap and could not be rewritten.
size_t columns(FILE* out) {
  winsize size = {};
  return ioctl(fileno(out), TIOCGWINSZ, &size) == 0 && size.ws_col > 20 ? size.ws_col : 80;
}

// Steps are shown exactly, tokens and bytes rounded.
std::string amount(int64_t n) { return n < 100000 ? std::to_string(n) : format_count(double(n)); }

}  // namespace

Progress::Progress(std::string what, int64_t total, FILE* out)
    : what_(std::move(what)), total_(total), out_(out), terminal_(isatty(fileno(out))) {}

Progress::~Progress() { finish(); }

void Progress::start_at(int64_t done) {
  start_ = shown_done_ = done;
  began_ = Clock::now();
}

double Progress::seconds() const { return since(began_); }

bool Progress::due(int64_t done) const {
  if (total_ > 0 && done >= total_) return true;
  const double quiet = since(shown_at_);
  if (terminal_) return !any_ || quiet >= 0.1;
  return quiet >= 10 || (quiet >= 1 && total_ > 0 && done - shown_done_ >= std::max<int64_t>(1, total_ / 20));
}

void Progress::update(int64_t done, const std::string& details, double seconds_left) {
  if (!due(done)) return;
  std::string line = what_ + " " + amount(done);
  if (total_ > 0) line += "/" + amount(total_);
  if (!details.empty()) line += " | " + details;
  if (total_ > 0 && done > start_) {
    const double by_speed = seconds() * double(std::max<int64_t>(0, total_ - done)) / double(done - start_);
    const double left = seconds_left >= 0 ? seconds_left : by_speed;
    line += done < total_ ? " | eta " + format_time(left) : " | " + format_time(seconds());
  }
  show(line);
  shown_done_ = done;
}

void Progress::show(const std::string& line) {
  if (terminal_) {
    // \033[K clears the rest of a longer line before.
    fprintf(out_, "\r%s\033[K", line.substr(0, columns(out_) - 1).c_str());
  } else {
    fprintf(out_, "%s\n", line.c_str());
  }
  fflush(out_);
  shown_ = line;
  any_ = true;
  shown_at_ = Clock::now();
}

void Progress::say(const std::string& line) {
  if (terminal_ && any_) {
    fprintf(out_, "\r\033[K%s\n%s", line.c_str(), shown_.substr(0, columns(out_) - 1).c_str());
  } else {
    fprintf(out_, "%s\n", line.c_str());
  }
  fflush(out_);
}

void Progress::finish() {
  if (terminal_ && any_) fputc('\n', out_);
  any_ = false;
}

}  // namespace supra
