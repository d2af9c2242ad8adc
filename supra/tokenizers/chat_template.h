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

// How a conversation is written down for a model that was trained on one. Models bring a Jinja program for
// it. The forms that are in use are known by name here, and recognised by strings in the program. Mistral's
// differ in their spaces and in where the system's message stands (v3 and later say [INST] by a special token).
// Where Mistral's programs repeat the system's message before the last message of the user, it stands before
// the first one here, since a model with a state reads it once.
struct ChatTemplate {
  enum class Form {
    plain,
    chatml,
    llama2,
    llama3,
    mistral,
    mistral_v1,
    mistral_v3,
    mistral_v3_tekken,
    mistral_v7,
    mistral_v7_tekken,
    phi3,
    phi4_mini,
    phi4,
    gemma,
    smollm3,
    granite,
    command_r,
    olmo
  };
  Form form = Form::plain;
  // The system's message where the conversation begins with none.
  std::string default_system;
  // What stands in front of the system's message, and alone where there is none.
  std::string system_preamble = "";

  const char* name() const;

  // The text, to be encoded with its special tokens parsed; without BOS in front. With `answer` the beginning
  // of the assistant's next message stands at its end. Throws Error for a role that is not known.
  std::string render(std::span<const ChatMessage> messages, bool answer) const;

  // The text between an answer of the model and its next one: the end of the answer, the user's message and
  // the beginning of the next answer. A model that has read its own answer reads only this (encode it with
  // EncodeOptions::continues), so that each message is read once. What the model wrote stays as it wrote it,
  // where render() would drop white space around it.
  std::string render_next(std::string_view user) const;

  // The token that ends an answer: its text, "" where a line end does, and its id, -1 where there is none.
  std::string_view end_mark() const;
  int32_t end_id(const Tokenizer& tokenizer) const;
};

// The text with a space before the last character of each special token's text in it (a token of one character
// becomes a space), and of each mark of a form that is one token: what parses special tokens finds none there.
std::string without_special(const Tokenizer& tokenizer, std::string_view text);

// The date that some templates write into the system text; without a clock, the date in Llama 3.1's template.
struct Date {
  int day = 26, month = 7, year = 2024;
};

// The form of a Jinja program: plain for an empty one. Throws Error for one that is not known.
ChatTemplate chat_template_of(std::string_view program, Date today = {});

}  // namespace supra
