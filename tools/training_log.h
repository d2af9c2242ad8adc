#pragma once
#include <cerrno>
#include <cstdio>
#include <cstring>

#include "supra/training/train.h"

namespace supra {

// The CSV of a run, one row a step: what `supra plot` draws. An empty path writes nothing.
class TrainingLog {
 public:
  TrainingLog(const Path& path, bool append) {
    if (path.empty()) return;
    file_ = fopen(path.c_str(), append ? "a" : "w");
    CHECK(file_, "%s: cannot write the log: %s (check the path)", path.c_str(), strerror(errno));
    // a run that resumes may begin a log
    if (ftell(file_) == 0) fprintf(file_, "step,tokens,seconds,loss,grad_norm,lr,tokens_per_second,valid_nll\n");
  }
  ~TrainingLog() {
    if (file_) fclose(file_);
  }
  TrainingLog(const TrainingLog&) = delete;
  TrainingLog& operator=(const TrainingLog&) = delete;

  void write(const TrainStep& s) {
    if (!file_) return;
    fprintf(file_, "%ld,%ld,%.3f,%.6f,%.6f,%.4e,%.1f,", static_cast<long>(s.step), static_cast<long>(s.tokens), s.seconds,
            s.loss, s.grad_norm, s.lr, s.tokens_per_second);
    if (s.valid_nll >= 0) fprintf(file_, "%.6f", s.valid_nll);
    fprintf(file_, "\n");
    fflush(file_);
  }

 private:
  FILE* file_ = nullptr;
};

}  // namespace supra
