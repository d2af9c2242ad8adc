#include "tests/tools/script_test.h"

// tools/build/find_nvcc.sh, which make cuda asks, with compilers that only say what they are.

namespace supra {
namespace {

class FindNvcc : public ScriptTest {
 protected:
  // An nvcc of that version, which accepts the compiler `host` alone.
  std::string nvcc(const std::string& version, const std::string& host) {
    return program("nvcc-" + version, "[ \"$1\" = --version ] && echo 'Cuda compilation tools, release " +
                                          version + ", V" + version +
                                          ".88' && exit 0\ncase \"$*\" in *'-ccbin " + host +
                                          " '*) exit 0;; esac\nexit 1");
  }
  // What the script prints, and whether it found a pair.
  std::pair<std::string, bool> find(const std::string& nvccs, const std::string& hosts) {
    const auto [text, status] = run("sh tools/build/find_nvcc.sh '" + nvccs + "' '" + hosts + "'");
    return {text, status == 0};
  }

  const std::string gcc12_ = program("gcc12", "echo 12"), gcc13_ = program("gcc13", "echo 13");
};

TEST_F(FindNvcc, takes_the_first_pair_that_works) {
  const std::string old = nvcc("11.8", gcc12_), ubuntus = nvcc("12.0", gcc12_),
                    nvidias = nvcc("12.4", gcc13_);
  const auto pair = [](const std::string& a, const std::string& b) {
    return std::pair(a + " " + b + "\n", true);
  };
  EXPECT_EQ(find(nvidias, gcc13_ + " " + gcc12_), pair(nvidias, gcc13_));
  // g++ 13 is this machine's, but not for that nvcc
  EXPECT_EQ(find(ubuntus, gcc13_ + " " + gcc12_), pair(ubuntus, gcc12_));
  EXPECT_EQ(find("/missing/nvcc " + old + " " + ubuntus + " " + nvidias, gcc13_), pair(nvidias, gcc13_));
}

// The libraries are looked for beside it, so a name becomes a path.
TEST_F(FindNvcc, finds_an_nvcc_by_its_name) {
  const std::string path = nvcc("12.4", gcc13_);
  const auto [text, status] =
      run("PATH='" + dir_.path().string() + "':\"$PATH\" sh tools/build/find_nvcc.sh nvcc-12.4 '" + gcc13_ + "'");
  EXPECT_EQ(text, path + " " + gcc13_ + "\n");
  EXPECT_EQ(status, 0);
}

TEST_F(FindNvcc, says_what_is_missing) {
  const auto expect_says = [&](const std::string& nvccs, const std::string& hosts,
                               const std::vector<std::string>& parts) {
    const auto [text, found] = find(nvccs, hosts);
    EXPECT_FALSE(found);
    for (const std::string& part : parts) EXPECT_NE(text.find(part), std::string::npos) << text;
  };
  expect_says("/missing/nvcc", gcc12_, {"no nvcc was found", "CUDA 12.0 or later", "cuda-toolkit"});
  const std::string old = nvcc("11.8", gcc12_), ubuntus = nvcc("12.0", gcc12_);
  expect_says(old, gcc12_, {old + " is of CUDA 11.8", "CUDA 12.0 or later"});
  expect_says(ubuntus, gcc13_, {ubuntus + " is of CUDA 12.0", gcc13_ + " 13", "CUDA 12.4 or later"});
  expect_says(ubuntus, "/missing/g++", {"there is none"});
}

}  // namespace
}  // namespace supra
