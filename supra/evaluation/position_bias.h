#pragma once
#include "supra/evaluation/choices.h"
#include "supra/evaluation/mean.h"

namespace supra {

// What multiple choice hides: a model that answers by letter. Each item of MMLU is asked four times, the contents of its choices
// moved on by one letter each time, behind the worked examples as they stand.
// Each mean is over items.
struct PositionBias {
  Mean accuracy;              // answers that are right, of all shifts of an item; 1/4 by chance, and for a model that goes by letter
  Mean all_right;             // items that are right under every shift
  Mean same_content;          // items where one content wins under every shift: 1/64 by chance, 0 for a model that goes by letter
  std::vector<Mean> by_shift; // answers that are right where contents moved on by 0, 1, 2, 3 letters
  std::vector<Mean> letters;  // how often A, B, C, D are chosen, of all shifts of an item: 1/4 each where only contents count
  int64_t cut = 0;            // requests that were cut from the left
};

// Of subjects of TaskKind::mmlu. `context`: ids that the model knows, what is more is cut from the left; 0: any number.
PositionBias position_bias(const Decoder& decoder, const Tokenizer& tokenizer, const std::vector<Task>& subjects, int64_t context, bool bos,
                           const OnItems& on_items = {});

// The item of TaskKind::mmlu with the content of letter i at letter i + shift, cyclically.
TaskItem shifted(const TaskItem& item, int64_t shift);

}  // namespace supra
