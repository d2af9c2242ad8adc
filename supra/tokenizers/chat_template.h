#pragma once
#include <span>
#include <string>
#include <string_view>

namespace supra {

struct ChatMessage {
  std::string role;  // "system", "user" or "assistant"
  std::string content;
};

// How a conversation is written down for a model that was trained on one. Models bring a Jinja program for
// it; the forms that are in use are known by name here, and told by the strings in the program.
struct ChatTemplate {
  enum class Form { plain, chatml, llama2, llama3, mistral };
  Form form = Form::plain;
  // What stands first where no message of the system does.
  std::string default_system;

  const char* name() const;

  // The text, to be encoded with its special tokens parsed; without BOS in front. With `answer` the beginning
  // of the assistant's next message stands at its end. Throws Error for a role that is not known.
  std::string render(std::span<const ChatMessage> messages, bool answer) const;
};

// The form of a Jinja program: plain for an empty one. Throws Error for one that is not known.
ChatTemplate chat_template_of(std::string_view program);

}  // namespace supra
