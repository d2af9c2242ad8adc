#include "supra/tokenizers/chat_template.h"

#include <algorithm>

#include "supra/formats/parse/words.h"
#include "supra/tokenizers/tokenizer.h"
#include "tensor/error.h"

namespace supra {

namespace {

// The texts of a form before and after each kind of message.
struct Writing {
  const char* name;
  std::string_view begin = "";  // before the first message
  std::string_view system = "", system_end = "";
  std::string_view user = "", user_end = "";
  std::string_view answer = "", answer_end = "";
  std::string_view end_mark = "";   // the special token in answer_end
  std::string_view space = "";      // before the content of an answer; a model generates it itself
  std::string_view again = "";      // before a user's message other than the first
  bool system_inside_user = false;  // the system's message is part of the first user's message
  bool trims = false;               // white space at both ends of a message is dropped
};

// In the order of ChatTemplate::Form.
// clang-format off
constexpr Writing kWritings[] = {
    {.name = "plain", .system_end = "\n", .user = "User: ", .user_end = "\n", .answer = "Assistant:", .answer_end = "\n", .space = " ",
     .trims = true},
    {.name = "chatml", .system = "<|im_start|>system\n", .system_end = "<|im_end|>\n", .user = "<|im_start|>user\n",
     .user_end = "<|im_end|>\n", .answer = "<|im_start|>assistant\n", .answer_end = "<|im_end|>\n", .end_mark = "<|im_end|>"},
    {.name = "llama2", .system = "<<SYS>>\n", .system_end = "\n<</SYS>>\n\n", .user = "[INST] ", .user_end = " [/INST]",
     .answer_end = " </s>", .end_mark = "</s>", .space = " ", .again = "<s>", .system_inside_user = true, .trims = true},
    {.name = "llama3", .system = "<|start_header_id|>system<|end_header_id|>\n\n", .system_end = "<|eot_id|>",
     .user = "<|start_header_id|>user<|end_header_id|>\n\n", .user_end = "<|eot_id|>",
     .answer = "<|start_header_id|>assistant<|end_header_id|>\n\n", .answer_end = "<|eot_id|>", .end_mark = "<|eot_id|>", .trims = true},
    {.name = "mistral", .system_end = "\n\n", .user = "[INST] ", .user_end = " [/INST]", .answer_end = "</s>", .end_mark = "</s>",
     .system_inside_user = true},
    {.name = "mistral-v1", .system_end = "\n\n", .user = " [INST] ", .user_end = " [/INST]", .answer_end = "</s>", .end_mark = "</s>",
     .space = " ", .system_inside_user = true},
    {.name = "mistral-v3", .system_end = "\n\n", .user = "[INST] ", .user_end = "[/INST]", .answer_end = "</s>", .end_mark = "</s>",
     .space = " ", .system_inside_user = true},
    {.name = "mistral-v3-tekken", .system_end = "\n\n", .user = "[INST]", .user_end = "[/INST]", .answer_end = "</s>", .end_mark = "</s>",
     .system_inside_user = true},
    {.name = "mistral-v7", .system = "[SYSTEM_PROMPT] ", .system_end = "[/SYSTEM_PROMPT]", .user = "[INST] ", .user_end = "[/INST]",
     .answer_end = "</s>", .end_mark = "</s>", .space = " "},
    {.name = "mistral-v7-tekken", .system = "[SYSTEM_PROMPT]", .system_end = "[/SYSTEM_PROMPT]", .user = "[INST]", .user_end = "[/INST]",
     .answer_end = "</s>", .end_mark = "</s>"},
    {.name = "phi3", .system = "<|system|>\n", .system_end = "<|end|>\n", .user = "<|user|>\n", .user_end = "<|end|>\n",
     .answer = "<|assistant|>\n", .answer_end = "<|end|>\n", .end_mark = "<|end|>"},
    {.name = "phi4-mini", .system = "<|system|>", .system_end = "<|end|>", .user = "<|user|>", .user_end = "<|end|>",
     .answer = "<|assistant|>", .answer_end = "<|end|>", .end_mark = "<|end|>"},
    {.name = "phi4", .system = "<|im_start|>system<|im_sep|>", .system_end = "<|im_end|>", .user = "<|im_start|>user<|im_sep|>",
     .user_end = "<|im_end|>", .answer = "<|im_start|>assistant<|im_sep|>", .answer_end = "<|im_end|>", .end_mark = "<|im_end|>"},
    {.name = "gemma", .system_end = "\n\n", .user = "<start_of_turn>user\n", .user_end = "<end_of_turn>\n",
     .answer = "<start_of_turn>model\n", .answer_end = "<end_of_turn>\n", .end_mark = "<end_of_turn>", .system_inside_user = true,
     .trims = true},
    {.name = "smollm3", .system = "<|im_start|>system\n", .system_end = "\n\n", .user = "<|im_start|>user\n", .user_end = "<|im_end|>\n",
     .answer = "<|im_start|>assistant\n", .answer_end = "<|im_end|>\n", .end_mark = "<|im_end|>"},
    {.name = "granite", .system = "<|start_of_role|>system<|end_of_role|>", .system_end = "<|end_of_text|>\n",
     .user = "<|start_of_role|>user<|end_of_role|>", .user_end = "<|end_of_text|>\n", .answer = "<|start_of_role|>assistant<|end_of_role|>",
     .answer_end = "<|end_of_text|>\n", .end_mark = "<|end_of_text|>"},
    {.name = "command-r", .system = "<|START_OF_TURN_TOKEN|><|SYSTEM_TOKEN|>", .system_end = "<|END_OF_TURN_TOKEN|>",
     .user = "<|START_OF_TURN_TOKEN|><|USER_TOKEN|>", .user_end = "<|END_OF_TURN_TOKEN|>",
     .answer = "<|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|>", .answer_end = "<|END_OF_TURN_TOKEN|>", .end_mark = "<|END_OF_TURN_TOKEN|>",
     .trims = true},
    {.name = "olmo", .begin = "<|endoftext|>", .system = "<|system|>\n", .system_end = "\n", .user = "<|user|>\n", .user_end = "\n",
     .answer = "<|assistant|>\n", .answer_end = "<|endoftext|>\n", .end_mark = "<|endoftext|>"}};
// clang-format on

const Writing& writing_of(ChatTemplate::Form form) { return kWritings[static_cast<int>(form)]; }

std::string_view trimmed(std::string_view text) {
  constexpr std::string_view white = " \t\n\v\f\r";
  const size_t begin = text.find_first_not_of(white);
  return begin == text.npos ? "" : text.substr(begin, text.find_last_not_of(white) + 1 - begin);
}

// Appends one message of the conversation.
void append_message(std::string& text, const Writing& w, std::string_view begin, std::string_view content,
                    std::string_view end) {
  text += begin;
  text += w.trims ? trimmed(content) : content;
  text += end;
}

}  // namespace

const char* ChatTemplate::name() const { return writing_of(form).name; }

std::string ChatTemplate::render(std::span<const ChatMessage> messages, bool answer) const {
  const Writing& w = writing_of(form);
  std::string text(w.begin), system;  // system: the part that goes into the next user's message
  const auto add_system = [&](const std::string& content) {
    if (w.system_inside_user)
      system = std::string(w.system).append(content).append(w.system_end);
    else
      append_message(text, w, std::string(w.system) + (text == w.begin ? system_preamble : ""), content, w.system_end);
  };
  const bool has_system = !messages.empty() && messages[0].role == "system";
  if (!has_system && !(default_system.empty() && system_preamble.empty())) add_system(default_system);
  for (const auto& [role, content] : messages) {
    CHECK(role == "system" || role == "user" || role == "assistant",
          "chat: a message has the unknown role %s (the roles are system, user and assistant)", role.c_str());
    if (role == "system") {
      add_system(content);
    } else if (role == "assistant") {
      text += w.answer;
      append_message(text, w, w.space, content, w.answer_end);
    } else {
      if (text != w.begin) text += w.again;
      append_message(text, w, w.user, system + content, w.user_end);
      system.clear();
    }
  }
  if (answer) text += w.answer;
  return text;
}

std::string ChatTemplate::render_next(std::string_view user) const {
  const Writing& w = writing_of(form);
  std::string text = std::string(w.answer_end).append(w.again);
  append_message(text, w, w.user, user, w.user_end);
  return text.append(w.answer);
}

std::string_view ChatTemplate::end_mark() const { return writing_of(form).end_mark; }

static std::vector<int32_t> ids_of(const Tokenizer& tokenizer, std::string_view text) {
  return tokenizer.encode(text, {.parse_special = true, .continues = true});
}

int32_t ChatTemplate::end_id(const Tokenizer& tokenizer) const {
  const std::vector<int32_t> ids = ids_of(tokenizer, end_mark());
  return ids.size() == 1 ? ids[0] : -1;
}

// The ids of all forms' marks that are one token; in some tokenizers these are not special.
static std::vector<int32_t> ids_of_marks(const Tokenizer& tokenizer) {
  std::vector<int32_t> marks;
  for (const std::string& mark : split_words(
           "<|im_start|> <|im_end|> <|start_header_id|> <|end_header_id|> <|eot_id|> [INST] [/INST] [SYSTEM_PROMPT] [/SYSTEM_PROMPT] <s> "
           "</s> <|im_sep|> <|system|> <|user|> <|assistant|> <|end|> <start_of_turn> <end_of_turn> <|start_of_role|> <|end_of_role|> "
           "<|end_of_text|> <|START_OF_TURN_TOKEN|> <|END_OF_TURN_TOKEN|> <|SYSTEM_TOKEN|> <|USER_TOKEN|> <|CHATBOT_TOKEN|> "
           "<|endoftext|>")) {
    const std::vector<int32_t> ids = ids_of(tokenizer, mark);
    if (ids.size() == 1) marks.push_back(ids[0]);
  }
  return marks;
}

std::string without_special(const Tokenizer& tokenizer, std::string_view text) {
  const std::vector<int32_t> marks = ids_of_marks(tokenizer);
  const auto holds_special = [&](std::string_view part) {
    const std::vector<int32_t> ids = ids_of(tokenizer, part);
    return std::any_of(ids.begin(), ids.end(), [&](int32_t id) {
      return tokenizer.is_special(id) || std::find(marks.begin(), marks.end(), id) != marks.end();
    });
  };
  std::string safe;
  while (!text.empty()) {
    // The shortest beginning that contains a special token ends with it. It is found by doubling and then by bisection, so that
    // the time is proportional to the text, however many special tokens it has.
    size_t without = 0, with = std::min<size_t>(text.size(), 32);
    while (!holds_special(text.substr(0, with))) {
      if (with == text.size()) return safe.append(text);
      without = with;
      with = std::min(text.size(), 2 * with);
    }
    while (with - without > 1) {
      const size_t middle = without + (with - without) / 2;
      (holds_special(text.substr(0, middle)) ? with : without) = middle;
    }
    size_t last = with - 1;
    while (last > 0 && (text[last] & 0xc0) == 0x80) last--;
    safe.append(text.substr(0, last)).append(" ");
    text.remove_prefix(last > 0 ? last : with);
  }
  return safe;
}

// A Jinja text up to the first quotation mark, tag or expression. Empty if that is not `end`.
static std::string literal_before(std::string_view program, std::string_view end) {
  std::string text;
  for (size_t at = 0; at < program.size(); at++) {
    const std::string_view rest = program.substr(at);
    if (std::string_view("'\"<{").find(rest[0]) != std::string_view::npos) return rest.starts_with(end) ? text : "";
    const bool escaped = rest[0] == '\\' && rest.size() > 1;
    text += !escaped ? rest[0] : rest[1] == 'n' ? '\n' : rest[1] == 't' ? '\t' : rest[1];
    at += escaped;
  }
  return "";
}

// The default system message in a ChatML program: '<|im_start|>system\n...<|im_end|>\n'. A line end may be written as Jinja's
// two characters.
static std::string default_system_in(std::string_view program) {
  constexpr std::string_view beginning = "<|im_start|>system";
  for (size_t at = program.find(beginning); at != program.npos; at = program.find(beginning, at)) {
    at += beginning.size();
    const std::string_view rest = program.substr(at);
    const size_t line_end = rest.starts_with('\n') ? 1 : rest.starts_with("\\n") ? 2 : 0;
    const std::string text = line_end > 0 ? literal_before(rest.substr(line_end), "<|im_end|>") : "";
    if (!text.empty()) return text;
  }
  return "";
}

// The literal of a program with this beginning, without line ends at its end.
static std::string literal_from(std::string_view program, std::string_view beginning) {
  const size_t at = program.find(beginning);
  if (at == program.npos) return "";
  const char quote = at > 0 ? program[at - 1] : '"';
  const size_t end = std::min(program.find(quote, at), program.size());
  std::string text(program.substr(at, end - at));
  for (size_t line; (line = text.find("\\n")) != text.npos;) text.replace(line, 2, "\n");
  text.resize(text.find_last_not_of('\n') + 1);
  return text;
}

ChatTemplate chat_template_of(std::string_view program, Date today) {
  using Form = ChatTemplate::Form;
  const auto has = [&](std::string_view text) { return program.find(text) != program.npos; };
  if (program.empty()) return {};
  static const char* const months[] = {"January", "February", "March",     "April",   "May",      "June",
                                       "July",    "August",   "September", "October", "November", "December"};
  const std::string month = months[(today.month + 11) % 12];
  if (has("<|im_start|>") && has("## Metadata") && has("Reasoning Mode")) {
    // SmolLM3, with thinking, which is its default
    return {Form::smollm3, literal_from(program, "You are a helpful AI assistant named SmolLM, trained by Hugging Face. Your role"),
            format("## Metadata\n\nKnowledge Cutoff Date: June 2025\nToday Date: %02d %s %d\nReasoning Mode: /think\n\n## Custom Instructions\n\n",
                   today.day, month.c_str(), today.year)};
  }
  // Phi-4 has <|im_sep|> instead of ChatML's line end
  if (has("<|im_start|>")) return has("<|im_sep|>") ? ChatTemplate{Form::phi4, ""} : ChatTemplate{Form::chatml, default_system_in(program)};
  if (has("<start_of_turn>")) return {Form::gemma, ""};
  if (has("<|start_of_role|>")) {
    const bool dated = has("You are Granite, developed by IBM") && has("strftime_now");
    return {Form::granite, !dated ? "" : format("Knowledge Cutoff Date: April 2024.\nToday's Date: %s %02d, %d.\nYou are Granite, developed by IBM. You are a helpful AI assistant.",
                                                month.c_str(), today.day, today.year)};
  }
  if (has("<|START_OF_TURN_TOKEN|>") && !has("<|START_RESPONSE|>")) return {Form::command_r, ""};
  // Phi-3's program spells the marks out, Phi-4-mini's composes them
  if (has("<|end|>") && has("<|user|>")) return {Form::phi3, ""};
  if (has("<|end|>") && has("'<|' + message['role'] + '|>'")) return {Form::phi4_mini, ""};
  // the texts of OLMo 1 and 2 begin with the mark that ends a text
  if (has("<|user|>") && has("<|assistant|>") && (has("{{ eos_token }}{% for") || has("{{ bos_token }}{% for"))) return {Form::olmo, ""};
  if (has("<|start_header_id|>")) {
    // Llama 3.1 and later; 3.1's program has a fixed date
    if (!has("Cutting Knowledge Date: December 2023")) return {Form::llama3, ""};
    if (!has("strftime_now")) today = {};
    const std::string short_month = std::string(months[(today.month + 11) % 12]).substr(0, 3);
    return {Form::llama3, "", format("Cutting Knowledge Date: December 2023\nToday Date: %02d %s %d\n\n", today.day, short_month.c_str(), today.year)};
  }
  if (has("<<SYS>>")) return {Form::llama2, ""};
  if (has("[INST]")) {
    const bool spaced = has("[INST] ");
    if (has("[SYSTEM_PROMPT]")) return {spaced ? Form::mistral_v7 : Form::mistral_v7_tekken, ""};
    if (has("[/INST]") && !has(" [/INST]")) return {spaced ? Form::mistral_v3 : Form::mistral_v3_tekken, ""};
    return {has("' [INST]") || has("\" [INST]") ? Form::mistral_v1 : Form::mistral, ""};
  }
  fail("chat: the model's chat template is of no known form (chatml, llama2, llama3, mistral, phi3, phi4, gemma, smollm3, "
       "granite, command-r, olmo); it begins with %.60s",
       std::string(program).c_str());
}

}  // namespace supra
