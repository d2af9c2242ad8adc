#pragma once
#include "supra/evaluation/choices.h"
#include "supra/evaluation/mean.h"

namespace supra {

// Detects models that answer a multiple choice by its letter. Each item of MMLU is asked four times, with the contents of its
// choices moved by one letter each time. The worked examples are not changed.
// Each mean is over items.
struct PositionBias {
  Mean accuracy;              // right answers over all shifts of an item; 1/4 by chance, and for a model that answers by letter
  Mean all_right;             // items answered right under every shift
  Mean same_content;          // items where the same content wins under every shift: 1/64 by chance, 0 for a model that answers by letter
  std::vector<Mean> by_shift; // right answers with contents moved by 0, 1, 2, 3 letters
  std::vector<Mean> letters;  // how often A, B, C, D are chosen over all shifts of an item: 1/4 each if only contents count
  int64_t cut = 0;            // requests that were too long and cut from the left
};

// For subjects of TaskKind::mmlu. `context`: the model's positions; longer requests are cut from the left; 0: no limit.
PositionBias position_bias(const Decoder& decoder, const Tokenizer& tokenizer, const std::vector<Task>& subjects, int64_t context, bool bos,
                           const OnItems& on_items = {});

// The item of TaskKind::mmlu with the content of letter i at letter i + shift, cyclically.
TaskItem shifted(const TaskItem& item, int64_t shift);

}  // namespace supra
