#include "supra/training/timetable.h"

#include <algorithm>
#include <cmath>

namespace supra {

Timetable::Timetable(const Recipe& recipe, const TrainOptions& o)
    : batch_tokens_(o.batch_tokens), validate_every_(o.validate_every), checkpoint_every_(o.checkpoint_every) {
  const int64_t steps = step_count(o);
  double share = 0;
  for (const Stage& stage : recipe.stages) {
    share += stage.share;
    ends_.push_back(std::min(steps, static_cast<int64_t>(std::llround(share * static_cast<double>(steps)))));
    costs_.push_back(stage.cost);
  }
  ends_.back() = steps;
  for (size_t i = 0; i < ends_.size(); i++) {
    CHECK(!recipe.stages[i].skip || end(i) > begin(i),
          "training: %ld steps are too few for %zu stages, %s gets none (give more --tokens, or a smaller --batch-tokens)",
          static_cast<long>(steps), ends_.size(), recipe.stages[i].name.c_str());
  }
  for (int64_t step = 1; step <= steps; step++) {
    validations_.push_back(validations_.back() + validates(step * batch_tokens_));
    saves_.push_back(saves_.back() + saves(step * batch_tokens_));
  }
}

bool Timetable::crosses(int64_t tokens, int64_t every) const { return every > 0 && tokens / every != (tokens - batch_tokens_) / every; }

bool Timetable::saves(int64_t tokens) const { return crosses(tokens, checkpoint_every_); }

bool Timetable::validates(int64_t tokens) const {
  const bool ends_stage = std::find(ends_.begin(), ends_.end(), tokens / batch_tokens_) != ends_.end();
  return ends_stage || saves(tokens) || crosses(tokens, validate_every_);
}

ToDo Timetable::to_do(int64_t tokens, size_t stage) const {
  ToDo left;
  const int64_t done = std::min(tokens / batch_tokens_, steps());
  for (size_t i = 0; i < ends_.size(); i++) {
    left.steps.push_back(i < stage ? 0 : std::max<int64_t>(0, end(i) - (i == stage ? done : std::max(begin(i), done))));
  }
  left.validations = validations_.back() - validations_[done] + (tokens == 0);
  left.saves = saves_.back() - saves_[done] + 1;
  return left;
}

int64_t Timetable::sample(int64_t there_are) const {
  constexpr double kShare = 0.05;
  constexpr int64_t kLeast = 2048;
  double work = 0;
  for (size_t i = 0; i < costs_.size(); i++) work += costs_[i] * static_cast<double>((end(i) - begin(i)) * batch_tokens_);
  // first the last validation, which scores all tokens; it may take half of the work
  const double all = std::min(static_cast<double>(there_are), kShare * work / 2);
  const double each = (kShare * work - all) / static_cast<double>(to_do(0).validations);
  return std::min(there_are, std::max(kLeast, static_cast<int64_t>(each)));
}

}  // namespace supra
