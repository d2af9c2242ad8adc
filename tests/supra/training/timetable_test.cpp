#include "supra/training/timetable.h"

#include <gtest/gtest.h>

#include <cmath>

#include "tensor/random.h"

namespace supra {
namespace {

Recipe two_stages() {
  Recipe recipe;
  recipe.stages.resize(2);
  recipe.stages[0].share = 0.3;
  recipe.stages[0].cost = 2.5;
  recipe.stages[1].share = 0.7;
  recipe.stages[1].cost = 4;
  return recipe;
}

TrainOptions run_of(int64_t steps) {
  TrainOptions o;
  o.batch_tokens = 1000;
  o.tokens = 1000 * steps;
  o.validate_every = o.tokens / 5;
  return o;
}

TEST(Timetable, CountsWhatIsLeft) {
  TrainOptions o = run_of(100);
  o.checkpoint_every = 9'000;
  const Timetable times(two_stages(), o);
  EXPECT_EQ(times.steps(), 100);
  EXPECT_EQ(times.end(0), 30);
  for (const int64_t step : {9, 18, 20, 27, 30, 36, 40, 100}) EXPECT_TRUE(times.validates(1000 * step)) << step;
  for (const int64_t step : {1, 10, 29, 31, 98}) EXPECT_FALSE(times.validates(1000 * step)) << step;
  EXPECT_TRUE(times.saves(9000));
  EXPECT_FALSE(times.saves(20000));
  const ToDo all = times.to_do(0), rest = times.to_do(40'000);
  EXPECT_EQ(all.steps, (std::vector<int64_t>{30, 70}));
  EXPECT_EQ(rest.steps, (std::vector<int64_t>{0, 60}));
  // multiples of 9, of 20, the ends of both stages, and before the first step
  EXPECT_EQ(all.validations, 11 + 5 + 1 + 1);
  EXPECT_EQ(all.saves, 11 + 1);
  EXPECT_EQ(rest.validations, 7 + 3);
  // steps of another size, as a resumed run may have them, begin anywhere
  EXPECT_EQ(times.to_do(40'500).steps, rest.steps);
}

// All validations of a run, the last one of the whole file, take a twentieth of its forward passes.
TEST(Timetable, ValidationTakesATwentieth) {
  const Timetable times(two_stages(), run_of(1000));
  const double work = 2.5 * 300e3 + 4 * 700e3;
  for (const int64_t there_are : {1'000, 5'000, 20'000, 40'000, 80'000}) {
    const int64_t sample = times.sample(there_are);
    const double cost = static_cast<double>(sample) * static_cast<double>(times.to_do(0).validations) + static_cast<double>(there_are);
    EXPECT_LE(sample, there_are);
    EXPECT_LE(cost, 0.0501 * work) << there_are;
    if (sample < there_are) {
      EXPECT_GT(cost, 0.049 * work) << there_are;
    }
  }
  // of a large file the sample takes half of it; of a short run a useful part
  EXPECT_NEAR(static_cast<double>(times.sample(50'000'000) * times.to_do(0).validations), 0.025 * work, 10);
  EXPECT_EQ(Timetable(two_stages(), run_of(10)).sample(50'000'000), 2048);
  EXPECT_EQ(Timetable(two_stages(), run_of(10)).sample(300), 300);
}

// A run by a made-up clock: steps that take other times than their stages' costs say, cold caches, slow drift, noise,
// validations and checkpoints. A tenth into each stage the estimate is right.
TEST(TimeLeft, IsRightFromEarlyOn) {
  TrainOptions o = run_of(4000);
  o.checkpoint_every = o.tokens / 10;
  const Timetable times(two_stages(), o);
  TimeLeft estimate({2.5, 4});
  ToDo left = times.to_do(0);
  const double sample = 20'000, all = 200'000, token_seconds = 1e-4, save_seconds = 1.5;
  std::vector<double> took, estimated;
  const auto validate = [&] {
    estimate.validated(static_cast<int64_t>(sample), sample * token_seconds);
    left.validations--;
    return sample * token_seconds;
  };
  Philox random(5);
  validate();
  for (int64_t step = 0; step < times.steps(); step++) {
    const size_t stage = step < times.end(0) ? 0 : 1;
    double seconds = (stage == 0 ? 0.1 : 0.175) * (1 + 0.1 * random.normal()) * (1 + 0.05 * static_cast<double>(step) / 4000);
    if (step == times.begin(stage)) seconds = 20;
    estimate.stepped(stage, seconds);
    left.steps[stage]--;
    const int64_t tokens = 1000 * (step + 1);
    if (times.validates(tokens)) seconds += validate();
    if (times.saves(tokens)) estimate.saved(save_seconds), seconds += save_seconds, left.saves--;
    took.push_back(seconds);
    estimated.push_back(estimate.seconds(left, sample * static_cast<double>(left.validations) + all));
  }
  double true_left = all * token_seconds + save_seconds;
  for (int64_t step = times.steps() - 1; step >= 0; step--) {
    if (step % 400 >= 40) {
      EXPECT_NEAR(estimated[step], true_left, 0.15 * true_left) << step;
    }
    true_left += took[step];
  }
}

}  // namespace
}  // namespace supra
