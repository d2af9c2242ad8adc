#include "tests/tools/script_test.h"

// tests/run.sh, which make test asks, with programs that print what GoogleTest would.

namespace supra {
namespace {

class RunTests : public ScriptTest {
 protected:
  // What the script prints of `program` beside one that passes two tests, and its exit status.
  std::pair<std::string, int> run_beside_good(const std::string& script) {
    return run("sh tests/run.sh 1 " + program("good", closing(2) + "\necho '[  PASSED  ] 2 tests.'") + " " +
               program("other", script) + " --");
  }
  static std::string closing(int tests) {
    return format("echo '[==========] %d tests from 1 test suite ran. (1 ms total)'", tests);
  }
};

TEST_F(RunTests, counts_are_added) {
  const auto [text, status] = run_beside_good(
      "echo beginning\n" + closing(3) +
      "\nprintf '[  PASSED  ] 1 test.\\n[  SKIPPED ] 1 test, listed below:\\n[  SKIPPED ] A.b\\n'"
      "\nprintf '[  FAILED  ] 1 test, listed below:\\n[  FAILED  ] A.c\\n\\n 1 FAILED TEST\\n'\nexit 1");
  EXPECT_EQ(status, 1);
  EXPECT_EQ(text,
            "beginning\n[==========] 5 tests ran.\n[  PASSED  ] 3 tests.\n"
            "[  SKIPPED ] 1 test, listed below:\n[  SKIPPED ] A.b\n"
            "[  FAILED  ] 1 test, listed below:\n[  FAILED  ] A.c\n");
}

TEST_F(RunTests, a_program_that_ends_early_fails) {
  for (const char* end : {"exit 0", "exit 3", "kill -SEGV $$"}) {
    const auto [text, status] = run_beside_good(std::string("echo beginning\n") + end);
    EXPECT_EQ(status, 1) << end;
    EXPECT_NE(text.find("1 test program did not end well: " + (dir_.path() / "other").string()), text.npos) << end;
    EXPECT_NE(text.find("beginning\n"), text.npos) << end;
  }
}

TEST_F(RunTests, what_a_sanitizer_says_at_the_end_is_seen) {
  const auto [text, status] =
      run_beside_good(closing(1) + "\necho '[  PASSED  ] 1 test.'\necho '==7==ERROR: LeakSanitizer'\nexit 23");
  EXPECT_EQ(status, 1);
  EXPECT_NE(text.find("==7==ERROR: LeakSanitizer\n"), text.npos);
  EXPECT_NE(text.find("exit status 23"), text.npos);
}

}  // namespace
}  // namespace supra
