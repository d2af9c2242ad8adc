#pragma once
#include <cstdlib>
#include <filesystem>

// A real model of 135M parameters, SmolLM2-135M-Instruct in Q4_1 (Apache-2.0), which the repository does not hold:
// $SUPRA_SMOLLM2, or where the script of the shared data puts it.

namespace supra {

inline std::filesystem::path smollm2() {
  const auto variable = [](const char* name) { return std::filesystem::path(std::getenv(name) ? std::getenv(name) : ""); };
  if (!variable("SUPRA_SMOLLM2").empty()) return variable("SUPRA_SMOLLM2");
  const std::filesystem::path cache = variable("XDG_CACHE_HOME").empty() ? variable("HOME") / ".cache" : variable("XDG_CACHE_HOME");
  return cache / "supra/SmolLM2-135M-Instruct.Q4_1.gguf";
}

#define SKIP_WITHOUT_SMOLLM2() \
  if (!std::filesystem::exists(smollm2())) GTEST_SKIP() << smollm2() << " is not here (set SUPRA_SMOLLM2, or fetch it)"

}  // namespace supra
