#pragma once
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <string>

// A line that shows the progress of a long job and the remaining time. On a terminal it is rewritten in place,
// at most ten times a second. Into a pipe or a file it prints plain lines, one every ten seconds or every
// twentieth of the job.

namespace supra {

class Progress {
 public:
  // `total` in the units of update(); 0: not known, and no time left is shown.
  Progress(std::string what, int64_t total, FILE* out = stderr);
  ~Progress();
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  // The starting point of a resumed job: the speed is measured from here.
  void start_at(int64_t done);

  // "what 120/1000 | details | eta 12m". Cheap if it is too early to show; the last one is always shown.
  // `seconds_left`: a better estimate than the speed so far; below 0: none.
  void update(int64_t done, const std::string& details = "", double seconds_left = -1);

  // Prints a separate line that stays.
  void say(const std::string& line);

  // Ends the line and leaves its last text on the screen. The destructor does the same.
  void finish();

  double seconds() const;  // since the construction

 private:
  using Clock = std::chrono::steady_clock;
  bool due(int64_t done) const;
  void show(const std::string& line);

  std::string what_, shown_;
  int64_t total_, start_ = 0, shown_done_ = 0;
  FILE* out_;
  bool terminal_, any_ = false;
  Clock::time_point began_ = Clock::now(), shown_at_ = began_;
};

}  // namespace supra
