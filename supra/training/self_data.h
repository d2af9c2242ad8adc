#pragma once
#include "nn/decoder.h"
#include "supra/tokenizers/tokenizer.h"
#include "tensor/parallel.h"

// Training text sampled from the teacher, for users without text of their own.

namespace supra {

// Samples documents from a teacher into a shard (shard.h), at temperature 1 from the whole distribution. Each begins with BOS
// (EOS where the tokenizer has no BOS), and ends with the next BOS or EOS, for which it gets the tokenizer's end mark, or with
// the teacher's context. Stops after `tokens` tokens and keeps unfinished documents: dropping them would favour short ones.
// The same seed gives the same shard (for the same CPU level and threads). `on_drawn` gets the number of tokens so far.
void write_self_data(const Path& shard, const Decoder& teacher, const Tokenizer& tokenizer, int64_t tokens, uint64_t seed,
                     FunctionRef<void(int64_t drawn)> on_drawn);

}  // namespace supra
