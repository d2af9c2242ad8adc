#pragma once
#include <algorithm>
#include <vector>

#include "supra/training/train.h"

// Which steps of a run validate and save, how many tokens a validation scores, and how long the rest of the run takes.

namespace supra {

// The remaining work of a run after a number of tokens. An estimate if that is not a multiple of the batch, as in a resumed run.
struct ToDo {
  std::vector<int64_t> steps;  // of each stage
  int64_t validations = 0;     // during the run, including the one before the first step
  int64_t saves = 0;           // including the last one
};

// Depends only on the options and on token counts, not on a clock, so a resumed run does the same.
class Timetable {
 public:
  Timetable(const Recipe& recipe, const TrainOptions& resolved);

  int64_t steps() const { return ends_.back(); }
  // The steps of a stage are those in [begin, end).
  int64_t begin(size_t stage) const { return stage == 0 ? 0 : ends_[stage - 1]; }
  int64_t end(size_t stage) const { return ends_[stage]; }
  const std::vector<double>& costs() const { return costs_; }  // of a token of each stage, in forward passes of the model

  // Whether a validation, or a scheduled checkpoint, follows the step that ends at this number of tokens. Every such checkpoint
  // is validated; otherwise the best one would not be known.
  bool validates(int64_t tokens) const;
  bool saves(int64_t tokens) const;

  // `stage`: the current stage. A run that was resumed with more tokens can be in it earlier than the timetable says.
  ToDo to_do(int64_t tokens, size_t stage = 0) const;

  // How many of `there_are` held-out tokens a validation during the run scores, so that all validations together take a
  // twentieth of the run's forward passes; at least 2,048 if there are as many. The last validation scores all.
  int64_t sample(int64_t there_are) const;

 private:
  bool crosses(int64_t tokens, int64_t every) const;

  std::vector<int64_t> ends_, validations_ = {0}, saves_ = {0};  // the latter: how many there are up to a step
  std::vector<double> costs_;
  int64_t batch_tokens_, validate_every_, checkpoint_every_;
};

// Estimates the remaining time of a run from the times of its steps, validations and checkpoints. It does not read a clock.
class TimeLeft {
 public:
  // `costs`: the relative cost of a step of each stage, used as an estimate before the stage's first step.
  explicit TimeLeft(std::vector<double> costs) : costs_(std::move(costs)), steps_(costs_.size()) {}

  void stepped(size_t stage, double seconds) { steps_[stage].add(seconds), last_ = stage; }
  void validated(int64_t scored, double seconds) { token_.add(seconds / static_cast<double>(std::max<int64_t>(1, scored))); }
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
  // A mean over about the last five minutes. The first value, measured with cold caches, is dropped when the second arrives.
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
