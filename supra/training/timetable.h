#pragma once
#include <vector>

#include "supra/training/train.h"

// Which steps of a run validate and save, and how many tokens a validation scores. All of it follows from the options and
// from token counts, never from a clock: a resumed run does the same.

namespace supra {

// Of a run that goes on behind so many tokens.
struct ToDo {
  std::vector<int64_t> steps;  // of each stage
  int64_t validations = 0;     // on the way, the one before the first step included
  int64_t saves = 0;           // the last one included
};

class Timetable {
 public:
  // `options` are resolved.
  Timetable(const Recipe& recipe, const TrainOptions& options);

  int64_t steps() const { return ends_.back(); }
  // The steps of a stage are those in [begin, end).
  int64_t begin(size_t stage) const { return stage == 0 ? 0 : ends_[stage - 1]; }
  int64_t end(size_t stage) const { return ends_[stage]; }
  // Of a token of each stage, in forward passes of the model.
  const std::vector<double>& costs() const { return costs_; }

  // Whether the step that ends at so many tokens is followed by a validation, or by a checkpoint that is due. Every such
  // checkpoint is validated: else the best one would not be known.
  bool validates(int64_t tokens) const;
  bool saves(int64_t tokens) const;

  // `stage`: that the run is in; with more tokens than before, it can be there before its time.
  ToDo to_do(int64_t tokens, size_t stage = 0) const;

  // How many of `there_are` held-out tokens a validation on the way scores, so that all validations of the run take a
  // twentieth of its forward passes: as many as there are, but at least 2,048. The last validation scores all.
  int64_t sample(int64_t there_are) const;

 private:
  bool ends_stage(int64_t tokens) const;
  bool crosses(int64_t tokens, int64_t every) const;

  std::vector<int64_t> ends_;
  std::vector<double> costs_;
  int64_t batch_tokens_, validate_every_, checkpoint_every_;
};

}  // namespace supra
