#pragma once
#include "tools/args.h"

// The commands of `supra`. Each is a function in its own file and one line in this table. COMMAND is also in the static program
// (make static), which runs models; WORKSHOP commands make or compare models and are left out of it.

#define SUPRA_COMMANDS(COMMAND, WORKSHOP)                                             \
  COMMAND(inspect, "what a model is: family, shape, tensors")                        \
  COMMAND(tokenize, "text to token ids, and back")                                   \
  WORKSHOP(linearize, "a softmax transformer becomes a recurrent model, untrained")  \
  COMMAND(convert, "a model in the layout of other frameworks")                      \
  COMMAND(quantize, "a model with smaller weights, and what that costs")             \
  WORKSHOP(uptrain, "train a linearized model until it makes sense again")           \
  WORKSHOP(train, "the same loop from random weights")                               \
  COMMAND(eval, "how well a model predicts a text, or answers a task")               \
  WORKSHOP(compare, "students beside their teacher: one table of what they keep")     \
  COMMAND(generate, "write on from a prompt")                                        \
  COMMAND(chat, "write in turns; the state is kept")                                 \
  WORKSHOP(verify, "compare a model with golden values")                             \
  COMMAND(doctor, "what this machine has, what will be used, and why")               \
  WORKSHOP(bench, "how fast it is, as a part of what this machine can do")           \
  WORKSHOP(plot, "draw the curves of training runs")                                 \
  WORKSHOP(demo, "the main job, on what the repository ships")                       \
  WORKSHOP(lab, "what mixers and recipes are worth, side by side")

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
