#pragma once
#include "nn/decoder.h"
#include "supra/tokenizers/tokenizer.h"
#include "tensor/parallel.h"

// Text for those who have none: what the teacher says by itself.

namespace supra {

// Samples documents from a teacher into a shard (shard.h): each begins with BOS (EOS where the tokenizer has no BOS) and is
// drawn at temperature 1 from the whole distribution, up to the next BOS or EOS, or to the teacher's context. A document
// that the teacher ended has the tokenizer's end of a document, one that reached the context has none. Stops after `tokens`
// tokens and keeps unfinished documents: dropping them would favour short ones. The same seed gives the same shard (on the
// same level and threads). `on_drawn`: called with how many there are. Throws Error where the tokenizer has neither mark or
// has pieces that the teacher does not know, and where every document was empty.
void write_self_data(const Path& shard, const Decoder& teacher, const Tokenizer& tokenizer, int64_t tokens, uint64_t seed,
                     FunctionRef<void(int64_t drawn)> on_drawn);

}  // namespace supra
