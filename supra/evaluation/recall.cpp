#include "supra/evaluation/recall.h"

#include <algorithm>

namespace supra {

double recall(const Decoder& decoder, const std::vector<RecallText>& texts) {
  NoGrad off;
  const int64_t O = decoder.config().vocab;
  int64_t right = 0, total = 0;
  for (const RecallText& text : texts) {
    const Tensor tokens = Tensor::of(text.ids, {1, static_cast<int64_t>(text.ids.size())});
    const Tensor hidden = decoder.hidden(tokens).value().view({tokens.dim(1), -1});
    for (const auto& [begin, end] : text.spans) {
      // row i of the logits predicts id i + 1
      const Tensor logits = decoder.logits(Var(hidden.rows(begin - 1, end - 1))).value();
      bool all = true;
      for (int64_t i = begin; i < end; i++) {
        const float* row = logits.data<float>() + (i - begin) * O;
        all = all && std::max_element(row, row + O) - row == text.ids[i];
      }
      right += all;
      total++;
    }
  }
  return total > 0 ? static_cast<double>(right) / static_cast<double>(total) : 0;
}

}  // namespace supra
