#pragma once
#include "supra/inference/sampler.h"
#include "tools/args.h"

namespace supra {

// The flags of generate and chat that choose how a token is drawn. Call finish() after args.parse().
struct SamplingFlags {
  SamplerOptions options;
  bool greedy = false;

  void declare(Args& args) {
    args.flag(&greedy, "--greedy", "always the most likely token");
    args.flag(&options.temperature, "--temperature", "X", "above 1: bolder, below 1: safer, 0: greedy");
    args.flag(&options.top_k, "--top-k", "N", "only the N most likely tokens; 0: off");
    args.flag(&options.top_p, "--top-p", "X", "only the most likely tokens that together reach X; 1: off");
    args.flag(&options.min_p, "--min-p", "X", "only tokens at least X times as likely as the most likely one; 0: off");
    args.flag(&options.repeat_penalty, "--repeat-penalty", "X", "above 1: recent tokens become less likely");
    args.flag(&options.seed, "--seed", "N", "random seed: the same seed writes the same text");
  }
  SamplerOptions finish() {
    if (greedy) options.temperature = 0;
    return options;
  }
};

}  // namespace supra
