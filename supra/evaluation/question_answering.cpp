#include "supra/evaluation/question_answering.h"

#include <algorithm>
#include <numeric>

#include "supra/formats/parse/utf8.h"
#include "supra/inference/sampler.h"
#include "supra/inference/session.h"
#include "supra/tokenizers/text_stream.h"
#include "supra/tokenizers/unicode.h"

namespace supra {

using Ids = std::vector<int32_t>;

// Python's string.punctuation and the four other quotes that TriviaQA's script removes.
static bool is_punctuation(uint32_t c) { return (c < 128 && ispunct(static_cast<int>(c))) || c == 0x2018 || c == 0x2019 || c == 0xb4; }

std::string normalize_answer(std::string_view text) {
  // an article is a whole run of letters and digits
  constexpr uint32_t kLettersAndDigits = kLetters | categories_named("N");
  std::string spaced, run;
  const auto end_run = [&] {
    spaced += run == "a" || run == "an" || run == "the" ? " " : run;
    run.clear();
  };
  for (; !text.empty(); text.remove_prefix(first_character(text).size)) {
    const uint32_t c = lower_case(first_character(text).code_point);
    if (is_in(kLettersAndDigits, c)) {
      append_utf8(run, c);
      continue;
    }
    end_run();
    if (is_punctuation(c) || is_in(kSpaces, c)) {
      spaced += ' ';
    } else {
      append_utf8(spaced, c);
    }
  }
  end_run();
  std::string normal;
  for (const char c : spaced) {
    if (c != ' ' || (!normal.empty() && normal.back() != ' ')) normal += c;
  }
  if (normal.ends_with(' ')) normal.pop_back();
  return normal;
}

bool is_right_answer(std::string_view answer, const std::vector<std::string>& right) {
  const std::string given = normalize_answer(answer);
  return !given.empty() && std::any_of(right.begin(), right.end(), [&](const std::string& r) { return normalize_answer(r) == given; });
}

// The prompts of a task, cut from the left to leave room for an answer.
static std::vector<Ids> encode_prompts(const Tokenizer& tokenizer, const Task& task, const AnswerOptions& options, int64_t& cut) {
  CHECK(options.context == 0 || options.context > options.tokens,
        "%s: an answer may have %ld tokens, but the model has only %ld positions (allow fewer)", task.name.c_str(),
        static_cast<long>(options.tokens), static_cast<long>(options.context));
  std::vector<Ids> prompts;
  for (const TaskItem& item : task.items) {
    Ids ids = tokenizer.encode(task.prompt + item.candidates[0].context, {.parse_special = true});
    if ((options.bos || ids.empty()) && tokenizer.bos() >= 0) ids.insert(ids.begin(), tokenizer.bos());
    CHECK(!ids.empty(), "%s: a context is empty, and the tokenizer has no BOS to use instead", task.name.c_str());
    const int64_t over = static_cast<int64_t>(ids.size()) + options.tokens - options.context;
    if (options.context > 0 && over > 0) {
      ids.erase(ids.begin(), ids.begin() + over);
      cut++;
    }
    prompts.push_back(std::move(ids));
  }
  return prompts;
}

// The number of ids at the beginning that all prompts share, not counting the last id of each.
static size_t shared_ids(const std::vector<Ids>& prompts) {
  const Ids& first = prompts[0];
  size_t shared = first.size();
  for (const Ids& ids : prompts) {
    const auto differs = std::mismatch(ids.begin(), ids.end(), first.begin(), first.end()).first;
    shared = std::min({shared, ids.size() - 1, static_cast<size_t>(differs - ids.begin())});
  }
  return shared;
}

// The text that a row has written so far.
struct Writing {
  TextStream stream;
  std::string text;
};

// Adds a piece; true if the answer ends.
static bool write_on(Writing& row, int32_t id, const Tokenizer& tokenizer, const std::vector<std::string>& stop) {
  if (tokenizer.is_end(id)) return true;
  if (id < tokenizer.size()) row.text += row.stream.push(tokenizer.piece(id));
  size_t end = std::string::npos;
  for (const std::string& s : stop) end = std::min(end, row.text.find(s));
  if (end != std::string::npos) row.text.resize(end);
  return end != std::string::npos;
}

// Continues each row of a session that has read its prompt. Rows that have ended leave the batch.
static std::vector<std::string> write_answers(const Decoder& decoder, Session& session, const Tokenizer& tokenizer, const AnswerOptions& options) {
  std::vector<Writing> rows(static_cast<size_t>(session.state().batch()));
  std::vector<size_t> active(rows.size());
  std::iota(active.begin(), active.end(), 0);
  Tensor logits = session.logits_there();
  for (int64_t written = 0;;) {
    std::vector<Sampler> greedy(active.size(), Sampler({.temperature = 0}));
    const std::vector<int32_t> chosen = Sampler::choose_rows(greedy, logits, decoder.config().vocab);
    Ids next;
    std::vector<size_t> going_on;
    std::vector<int64_t> kept;
    for (size_t r = 0; r < active.size(); r++) {
      if (write_on(rows[active[r]], chosen[r], tokenizer, options.stop)) continue;
      going_on.push_back(active[r]);
      kept.push_back(static_cast<int64_t>(r));
      next.push_back(chosen[r]);
    }
    if (going_on.empty() || ++written == options.tokens) break;
    if (kept.size() < active.size()) session.set_state(session.state().select(kept));
    active = going_on;
    session.advance(next);
    logits = session.logits_there();
  }
  std::vector<std::string> answers;
  for (Writing& row : rows) answers.push_back(row.text + row.stream.flush());
  return answers;
}

// The text without white space at its ends.
static std::string trimmed(const std::string& text) {
  const size_t begin = text.find_first_not_of(" \t\r\n"), end = text.find_last_not_of(" \t\r\n");
  return begin == std::string::npos ? "" : text.substr(begin, end - begin + 1);
}

QuestionAnswering answer_questions(const Decoder& decoder, const Tokenizer& tokenizer, const Task& task, const AnswerOptions& options,
                                   const OnItems& on_items) {
  // a step reads the weights once for this many rows
  constexpr size_t kRows = 32, kStateBytes = size_t{1} << 28;
  CHECK(task.kind == TaskKind::questions, "%s: holds %s items, question answering (context, answer, aliases) was expected", task.name.c_str(),
        name_of(task.kind));
  NoGrad off;
  QuestionAnswering result;
  const std::vector<Ids> prompts = encode_prompts(tokenizer, task, options, result.cut);
  result.answers.resize(prompts.size());
  if (prompts.empty()) return result;
  std::vector<size_t> order(prompts.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return prompts[a].size() > prompts[b].size(); });
  Session shared(decoder);
  const size_t head = shared_ids(prompts);
  shared.feed(std::span(prompts[0]).first(head));

  for (size_t at = 0; at < order.size();) {
    const size_t bytes = decoder.state_bytes(static_cast<int64_t>(prompts[order[at]].size()) + options.tokens);
    const size_t rows = std::min({order.size() - at, kRows, std::max<size_t>(1, kStateBytes / bytes)});
    std::vector<Ids> rest;
    for (size_t r = 0; r < rows; r++) {
      const Ids& ids = prompts[order[at + r]];
      rest.emplace_back(ids.begin() + static_cast<int64_t>(head), ids.end());
    }
    Session session(decoder, static_cast<int64_t>(rows));
    session.set_state(shared.state().select(std::vector<int64_t>(rows, 0)));
    session.feed(rest);
    const std::vector<std::string> texts = write_answers(decoder, session, tokenizer, options);
    for (size_t r = 0; r < rows; r++) {
      const size_t item = order[at + r];
      result.answers[item] = {trimmed(texts[r]), is_right_answer(texts[r], task.items[item].answers)};
      result.accuracy.add(result.answers[item].right);
    }
    at += rows;
    if (on_items) on_items(static_cast<int64_t>(at));
  }
  return result;
}

}  // namespace supra
