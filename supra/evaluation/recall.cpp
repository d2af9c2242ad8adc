#include "supra/evaluation/recall.h"

#include <algorithm>

namespace supra {

std::vector<Recalled> recalled(const Decoder& decoder, const std::vector<RecallText>& texts) {
  NoGrad off;
  const int64_t O = decoder.config().vocab;
  std::vector<Recalled> all;
  for (const RecallText& text : texts) {
    const Tensor tokens = Tensor::of(text.ids, {1, static_cast<int64_t>(text.ids.size())});
    const Tensor hidden = decoder.hidden(tokens).value().view({tokens.dim(1), -1});
    for (const RecallText::Span& span : text.spans) {
      // row i of the logits predicts id i + 1
      const Tensor logits = decoder.logits(Var(hidden.rows(span.begin - 1, span.end - 1))).value().to(Device::cpu).to(Dtype::f32);
      bool right = true;
      for (int64_t i = span.begin; i < span.end; i++) {
        const float* row = logits.data<float>() + (i - span.begin) * O;
        right = right && std::max_element(row, row + O) - row == text.ids[i];
      }
      all.push_back({span.begin - span.told, right});
    }
  }
  return all;
}

double share_recalled(const std::vector<Recalled>& spans, int64_t least, int64_t most) {
  int64_t right = 0, total = 0;
  for (const Recalled& span : spans) {
    if (span.distance < least || span.distance > most) continue;
    right += span.right;
    total++;
  }
  return total > 0 ? static_cast<double>(right) / static_cast<double>(total) : 0;
}

}  // namespace supra
