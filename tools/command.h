#pragma once
#include "tools/args.h"

// The sub-commands of `supra`. One is a function in a file of its own and one line in this table.

#define SUPRA_COMMANDS(COMMAND) COMMAND(doctor, "what this machine has, what will be used, and why")

namespace supra {

// A command declares its flags, calls args.parse(), does its work and returns the exit code: 0 done, 1 it
// failed. It may throw: Error becomes one line on stderr and 1, UsageError the usage line and 2.
struct Command {
  const char* name;
  const char* summary;
  int (*run)(Args& args);
};

#define SUPRA_DECLARE(name, summary) int run_##name(Args& args);
SUPRA_COMMANDS(SUPRA_DECLARE)
#undef SUPRA_DECLARE

}  // namespace supra
