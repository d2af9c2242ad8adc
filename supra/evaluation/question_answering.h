#pragma once
#include "supra/evaluation/choices.h"
#include "supra/evaluation/mean.h"

namespace supra {

// Question answering, scored by the text that a model writes: TriviaQA's exact match (arXiv 1705.03551). Greedy decoding continues
// the context until one of `stop`, which is cut off, an id that ends a text, or a number of tokens. lm-evaluation-harness's triviaqa
// stops at the same three texts. Its limit is 256 tokens, but no alias of TriviaQA has more than 62 characters.
struct AnswerOptions {
  int64_t tokens = 32;
  int64_t context = 0;  // the model's positions, including the answer: longer prompts are cut from the left; 0: no limit
  bool bos = false;
  std::vector<std::string> stop = {"\n", ".", ","};
};

struct Answer {
  std::string text;  // the answer, without white space at its ends
  bool right = false;
};

struct QuestionAnswering {
  Mean accuracy;
  int64_t cut = 0;  // prompts that were cut from the left
  std::vector<Answer> answers;
};

// Answers a task of TaskKind::questions, in batches. The prefix common to all prompts is run once.
QuestionAnswering answer_questions(const Decoder& decoder, const Tokenizer& tokenizer, const Task& task, const AnswerOptions& options,
                                   const OnItems& on_items = {});

// Normalises an answer as TriviaQA's evaluation script does: lower case (here for Latin, Greek and Cyrillic letters), punctuation
// becomes spaces, the words "a", "an" and "the" are removed, single spaces.
std::string normalize_answer(std::string_view text);

// Whether it equals one of them after normalisation. An answer that is then empty equals none.
bool is_right_answer(std::string_view answer, const std::vector<std::string>& right);

}  // namespace supra
