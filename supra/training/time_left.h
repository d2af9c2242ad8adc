#pragma once
#include <algorithm>
#include <vector>

#include "supra/training/timetable.h"

namespace supra {

// Estimates the remaining time of a run from the times of its steps, validations and checkpoints. It does not read a clock.
class TimeLeft {
 public:
  // `costs`: the relative cost of a step of each stage, used as an estimate before the stage's first step.
  explicit TimeLeft(std::vector<double> costs) : costs_(std::move(costs)), steps_(costs_.size()) {}

  void stepped(size_t stage, double seconds) { steps_[stage].add(seconds), last_ = stage; }
  // `tokens`: the number of scored tokens.
  void validated(int64_t tokens, double seconds) { token_.add(seconds / static_cast<double>(std::max<int64_t>(1, tokens))); }
  void saved(double seconds) { save_.add(seconds); }

  // `validation_tokens`: the tokens to score in all remaining validations.
  double seconds(const ToDo& left, double validation_tokens) const {
    double sum = token_.seconds * validation_tokens + save_.seconds * static_cast<double>(left.saves);
    for (size_t i = 0; i < steps_.size(); i++) {
      const double step = steps_[i].count > 0 ? steps_[i].seconds : steps_[last_].seconds * costs_[i] / costs_[last_];
      sum += step * static_cast<double>(left.steps[i]);
    }
    return sum;
  }

 private:
  // A mean over about the last five minutes. The first value, measured with cold caches and new memory, is dropped when the
  // second arrives.
  struct Mean {
    double seconds = 0;
    int count = 0;

    void add(double value) {
      const double by_count = count < 2 ? 1 : 1 / static_cast<double>(count);
      seconds += std::max(by_count, std::min(1.0, value / 300)) * (value - seconds);
      count++;
    }
  };

  std::vector<double> costs_;
  std::vector<Mean> steps_;
  Mean token_, save_;
  size_t last_ = 0;
};

}  // namespace supra
