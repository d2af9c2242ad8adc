#pragma once
#include "nn/decoder.h"
#include "supra/tokenizers/tokenizer.h"
#include "tensor/parallel.h"

// Training text sampled from the teacher, for users without text of their own.

namespace supra {

// Samples documents from a teacher into a shard (shard.h): each begins with BOS (EOS where the tokenizer has no BOS) and is
// sampled at temperature 1 from the whole distribution, up to the next BOS or EOS, or to the teacher's context. A document
// that the teacher ended gets the tokenizer's end mark; one that reached the context gets none. Stops after `tokens`
// tokens and keeps unfinished documents: dropping them would favour short ones. The same seed gives the same shard (for
// the same CPU level and threads). `on_drawn` is called with the number of tokens so far. Throws Error if the tokenizer has
// neither mark or has pieces beyond the teacher's vocabulary, and if every document was empty.
void write_self_data(const Path& shard, const Decoder& teacher, const Tokenizer& tokenizer, int64_t tokens, uint64_t seed,
                     FunctionRef<void(int64_t drawn)> on_drawn);

}  // namespace supra
