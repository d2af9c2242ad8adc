#pragma once
#include <gtest/gtest.h>
#include <sys/wait.h>

#include <cstdio>

#include "supra/formats/file.h"
#include "tests/support.h"

namespace supra {

// Tests of shell scripts, with programs that only say what they are told to.
class ScriptTest : public testing::Test {
 protected:
  std::string program(const std::string& name, const std::string& script) {
    const Path path = dir_.path() / name;
    write_file_atomically(path, "#!/bin/sh\n" + script + "\n");
    std::filesystem::permissions(path, std::filesystem::perms::owner_all);
    return path;
  }

  // What a command prints, and its exit status.
  static std::pair<std::string, int> run(const std::string& command) {
    FILE* const pipe = popen((command + " 2>&1").c_str(), "r");
    CHECK(pipe, "cannot run %s", command.c_str());
    std::string text(1 << 16, 0);
    text.resize(fread(text.data(), 1, text.size(), pipe));
    return {text, WEXITSTATUS(pclose(pipe))};
  }

  TempDir dir_;
};

}  // namespace supra
