#pragma once
#include "tools/args.h"

// The commands of `supra`. Each is a function in its own file and one line in this table. COMMAND is also in the static program
// (make static), which runs models; WORKSHOP commands make, measure or compare models and are left out of it.

#define SUPRA_COMMANDS(COMMAND, WORKSHOP)                                             \
  COMMAND(inspect, "show what a model is: family, shape, tensors")                    \
  COMMAND(tokenize, "convert text to token ids, and back")                            \
  WORKSHOP(linearize, "turn a softmax transformer into an untrained recurrent model") \
  COMMAND(convert, "write a model in the layout of other frameworks")                 \
  COMMAND(quantize, "make the weights smaller, and measure the loss of quality")      \
  WORKSHOP(uptrain, "train a linearized model")                                       \
  WORKSHOP(train, "train a model from random weights")                                \
  WORKSHOP(eval, "measure how well a model predicts a text or answers a task")        \
  WORKSHOP(compare, "compare students with their teacher in one table")               \
  COMMAND(generate, "continue a prompt")                                              \
  COMMAND(chat, "hold a conversation; the state is kept")                             \
  WORKSHOP(verify, "compare a model with golden values")                              \
  COMMAND(doctor, "show what this machine has, what is used, and why")                \
  WORKSHOP(bench, "measure speed, as a percentage of this machine's limits")          \
  WORKSHOP(plot, "draw the curves of training runs")                                  \
  WORKSHOP(demo, "run the whole project on a small example")                          \
  WORKSHOP(lab, "train students with different mixers and recipes, and compare them")

namespace supra {

// A command declares its flags, calls args.parse(), does its work and returns the exit code: 0 done, 1 it
// failed. It may throw: Error is printed as one line on stderr with exit code 1, UsageError with the usage line and 2.
struct Command {
  const char* name;
  const char* summary;
  int (*run)(Args& args);  // null if this build does not have it
};

#define SUPRA_DECLARE(name, summary) int run_##name(Args& args);
SUPRA_COMMANDS(SUPRA_DECLARE, SUPRA_DECLARE)
#undef SUPRA_DECLARE

}  // namespace supra
