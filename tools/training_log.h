#pragma once
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "supra/training/train.h"

namespace supra {

// The CSV of a run, one row a step: what `supra plot` draws. Without a path it writes nothing.
class TrainingLog {
 public:
  explicit TrainingLog(Path path) : path_(std::move(path)) {}
  ~TrainingLog() {
    if (file_) fclose(file_);
  }
  TrainingLog(const TrainingLog&) = delete;
  TrainingLog& operator=(const TrainingLog&) = delete;

  // The steps up to `step` stay, as a run that resumes there left them; the rows behind were of steps that will be done again.
  void start(int64_t step) {
    if (path_.empty()) return;
    std::string kept = "step,tokens,seconds,loss,grad_norm,lr,tokens_per_second,valid_nll,stage\n";
    if (step > 0 && std::filesystem::exists(path_)) {
      const std::string old = read_file(path_);
      size_t at = old.find('\n') + 1;
      // logs had no stages once
      const char* const stage = old.substr(0, at).ends_with(",stage\n") ? "" : ",";
      for (size_t end; (end = old.find('\n', at)) != std::string::npos && atoll(&old[at]) <= step; at = end + 1)
        kept += old.substr(at, end - at) + stage + "\n";
    }
    write_file_atomically(path_, kept);
    file_ = fopen(path_.c_str(), "a");
    CHECK(file_, "%s: cannot write the log: %s (check the path)", path_.c_str(), strerror(errno));
  }

  void write(const TrainStep& s) {
    if (!file_) return;
    fprintf(file_, "%ld,%ld,%.3f,%.9g,%.9g,%.6e,%.1f,", static_cast<long>(s.step), static_cast<long>(s.tokens), s.seconds,
            s.loss, s.grad_norm, s.lr, s.tokens_per_second);
    if (s.valid_nll >= 0) fprintf(file_, "%.9g", s.valid_nll);
    fprintf(file_, ",%s\n", s.stage.c_str());
    fflush(file_);
  }

 private:
  Path path_;
  FILE* file_ = nullptr;
};

}  // namespace supra
