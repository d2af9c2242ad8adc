#pragma once
#include <vector>

#include "supra/training/train.h"

// Which steps of a run validate and save, and how many tokens a validation scores. All of it depends only on the options and on
// token counts, not on a clock, so a resumed run does the same.

namespace supra {

// The remaining work of a run after a number of tokens; estimated if these are no whole batches, as in a resumed run.
struct ToDo {
  std::vector<int64_t> steps;  // of each stage
  int64_t validations = 0;     // during the run, including the one before the first step
  int64_t saves = 0;           // including the last one
};

class Timetable {
 public:
  // `options` must be resolved.
  Timetable(const Recipe& recipe, const TrainOptions& options);

  int64_t steps() const { return ends_.back(); }
  // The steps of a stage are those in [begin, end).
  int64_t begin(size_t stage) const { return stage == 0 ? 0 : ends_[stage - 1]; }
  int64_t end(size_t stage) const { return ends_[stage]; }
  // The cost of a token of each stage, in forward passes of the model.
  const std::vector<double>& costs() const { return costs_; }

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

}  // namespace supra
