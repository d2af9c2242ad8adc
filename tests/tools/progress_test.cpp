#include "tools/progress.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <limits>

#include "tools/human.h"

namespace supra {
namespace {

TEST(Human, Numbers) {
  EXPECT_EQ(format_count(0), "0");
  EXPECT_EQ(format_count(412), "412");
  EXPECT_EQ(format_count(38312), "38.3k");
  EXPECT_EQ(format_count(999499), "999k");
  EXPECT_EQ(format_count(999900), "1.00M");
  EXPECT_EQ(format_count(3e6), "3.00M");
  EXPECT_EQ(format_bytes(0), "0 B");
  EXPECT_EQ(format_bytes(1234567), "1.23 MB");
  EXPECT_EQ(format_time(0.0121), "12ms");
  EXPECT_EQ(format_time(3.42), "3.4s");
  EXPECT_EQ(format_precise_time(3.42), "3.42 s");
  EXPECT_EQ(format_precise_time(0.0000121), "12.1 us");
  EXPECT_EQ(format_time(59.7), "1m 00s");
  EXPECT_EQ(format_time(80), "1m 20s");
  EXPECT_EQ(format_time(7500), "2h 05m");
  EXPECT_EQ(format_time(std::numeric_limits<double>::infinity()), "?");
}

// What a Progress wrote into a file.
std::string written(FILE* file) {
  std::string text(size_t(ftell(file)), ' ');
  rewind(file);
  text.resize(fread(text.data(), 1, text.size(), file));
  fclose(file);
  return text;
}

TEST(Progress, IntoAPipeGoFewPlainLines) {
  FILE* file = tmpfile();
  ASSERT_TRUE(file);
  {
    Progress progress("step", 1000, file);
    for (int i = 1; i <= 1000; ++i) progress.update(i, "loss 3.1");
    progress.say("done");
  }
  const std::string text = written(file);
  EXPECT_EQ(text.rfind("step 1000/1000 | loss 3.1 | ", 0), 0u) << text;
  EXPECT_EQ(text.substr(text.size() - 5), "done\n");
  EXPECT_EQ(text.find('\r'), std::string::npos);
  EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 2);
}

}  // namespace
}  // namespace supra
