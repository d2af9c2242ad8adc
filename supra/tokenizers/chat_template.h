#pragma once
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace supra {

class Tokenizer;

struct ChatMessage {
  std::string role;  // "system", "user" or "assistant"
  std::string content;
};

// How a conversation is written as text for a chat model. Models come with a Jinja program for it. This class does not run the
// program; it recognises the usual forms by strings in it. Mistral's forms differ in spaces and in the place of the system
// message (in v3 and later [INST] is a special token). Mistral's programs repeat the system message before the last user
// message; here it is before the first one, because a model with a state reads it once.
struct ChatTemplate {
  enum class Form {
    plain, chatml, llama2, llama3, mistral, mistral_v1, mistral_v3, mistral_v3_tekken, mistral_v7,
    mistral_v7_tekken, phi3, phi4_mini, phi4, gemma, smollm3, granite, command_r, olmo
  };
  Form form = Form::plain;
  // The system message of a conversation that does not begin with one.
  std::string default_system;
  // Comes before the system message, also if that is empty.
  std::string system_preamble = "";

  const char* name() const;

  // The text, without BOS, to be encoded with parse_special. With `answer` it ends with the beginning of the assistant's next
  // message. Throws Error for an unknown role.
  std::string render(std::span<const ChatMessage> messages, bool answer) const;

  // The text between two answers of the model: the end of an answer, the user's message and the beginning of the next answer. A
  // model that has read its own answer reads only this (encode it with EncodeOptions::continues), so each message is read once.
  // Unlike render(), this keeps white space around the model's answer.
  std::string render_next(std::string_view user) const;

  // The token that ends an answer: its text, "" if that is a line end, and its id, -1 if there is none.
  std::string_view end_mark() const;
  int32_t end_id(const Tokenizer& tokenizer) const;
};

// The text with a space before the last character of each special token's text, and of each form's mark that is one token, so
// that it contains no special tokens. A token of one character becomes a space.
std::string without_special(const Tokenizer& tokenizer, std::string_view text);

// The date that some templates write into the system message. The default is that of Llama 3.1's template.
struct Date {
  int day = 26, month = 7, year = 2024;
};

// The form of a Jinja program; plain if it is empty. Throws Error for an unknown form.
ChatTemplate chat_template_of(std::string_view program, Date today = {});

}  // namespace supra
