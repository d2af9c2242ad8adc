#pragma once
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <map>

#include "supra/training/train.h"

namespace supra {

// The CSV log of a run, one row per step, which `supra plot` draws. Without a path it writes nothing.
class TrainingLog {
 public:
  // Throws Error if the file exists and is not a log, because it would be replaced.
  explicit TrainingLog(Path path) : path_(std::move(path)) {
    std::error_code error;
    if (!std::filesystem::is_regular_file(path_, error)) return;
    const MappedFile old(path_);
    CHECK(old.size() == 0 || old.text().starts_with(kFirstColumns), "%s: is not a log of a run, and would be replaced (give another --log)", path_.c_str());
  }
  ~TrainingLog() {
    if (file_) fclose(file_);
  }
  TrainingLog(const TrainingLog&) = delete;
  TrainingLog& operator=(const TrainingLog&) = delete;

  // Called once if a row cannot be written: the log then ends, and the run continues.
  std::function<void(const std::string&)> on_problem = [](const std::string& line) { fprintf(stderr, "%s\n", line.c_str()); };

  // Keeps the rows up to `step`, each step once: a run resumes there and repeats the steps of later rows.
  void start(int64_t step) {
    if (path_.empty()) return;
    // a terminal or a pipe has no rows, and must not be replaced by a file
    if (std::filesystem::exists(path_) && !std::filesystem::is_regular_file(path_)) return open();
    std::string kept = std::string(kFirstColumns) + "seconds,loss,grad_norm,lr,tokens_per_second,valid_nll,stage\n";
    if (step > 0 && std::filesystem::exists(path_)) {
      const std::string old = read_file(path_);
      size_t at = old.find('\n') + 1;
      // older logs have no stages
      const char* const stage = old.substr(0, at).ends_with(",stage\n") ? "" : ",";
      std::map<long long, std::string> rows;
      for (size_t end; (end = old.find('\n', at)) != std::string::npos; at = end + 1) {
        const long long row = atoll(&old[at]);
        if (row >= 1 && row <= step) rows[row] = old.substr(at, end - at) + stage + "\n";
      }
      for (const auto& [row, text] : rows) kept += text;
    }
    write_file_atomically(path_, kept);
    open();
  }

  void write(const TrainStep& s) {
    if (!file_) return;
    fprintf(file_, "%ld,%ld,%.3f,%.9g,%.9g,%.6e,%.1f,", static_cast<long>(s.step), static_cast<long>(s.tokens), s.seconds,
            s.loss, s.grad_norm, s.lr, s.tokens_per_second);
    if (s.valid_nll >= 0) fprintf(file_, "%.9g", s.valid_nll);
    fprintf(file_, ",%s\n", s.stage.c_str());
    if (fflush(file_) == 0) return;
    on_problem(format("%s: cannot be written: %s; the log ends before step %ld, the run goes on (free some space)", path_.c_str(),
                      strerror(errno), static_cast<long>(s.step)));
    fclose(file_);
    file_ = nullptr;
  }

 private:
  void open() {
    file_ = fopen(path_.c_str(), "a");
    CHECK(file_, "%s: cannot write the log: %s (check the path)", path_.c_str(), strerror(errno));
  }

  static constexpr const char* kFirstColumns = "step,tokens,";

  Path path_;
  FILE* file_ = nullptr;
};

}  // namespace supra
