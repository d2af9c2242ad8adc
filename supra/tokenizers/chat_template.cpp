#include "supra/tokenizers/chat_template.h"

#include "tensor/error.h"

namespace supra {

using Form = ChatTemplate::Form;

const char* ChatTemplate::name() const {
  static const char* names[] = {"plain", "chatml", "llama2", "llama3", "mistral"};
  return names[static_cast<int>(form)];
}

// One message of a form in which every role is written alike; with `answer` only the beginning of one.
static std::string marked(Form form, const ChatMessage& message, bool answer) {
  const std::string& role = message.role;
  if (form == Form::chatml) {
    return "<|im_start|>" + role + "\n" + (answer ? "" : message.content + "<|im_end|>\n");
  }
  if (form == Form::llama3) {
    return "<|start_header_id|>" + role + "<|end_header_id|>\n\n" +
           (answer ? "" : message.content + "<|eot_id|>");
  }
  return (role == "user"        ? "User: "
          : role == "assistant" ? "Assistant:"
                                : "") +
         (answer ? "" : (role == "assistant" ? " " : "") + message.content + "\n");
}

// [INST] question [/INST] answer: what the system says stands at the beginning of the first question.
static std::string bracketed(Form form, std::span<const ChatMessage> messages) {
  const bool llama = form == Form::llama2;
  std::string text, system;
  for (const ChatMessage& message : messages) {
    if (message.role == "system") {
      system = llama ? "<<SYS>>\n" + message.content + "\n<</SYS>>\n\n" : message.content + "\n\n";
    } else if (message.role == "user") {
      if (llama && !text.empty()) text += "<s>";
      text += "[INST] " + system + message.content + " [/INST]";
      system.clear();
    } else {
      text += llama ? " " + message.content + " </s>" : message.content + "</s>";
    }
  }
  return text;
}

std::string ChatTemplate::render(std::span<const ChatMessage> messages, bool answer) const {
  for (const auto& [role, content] : messages) {
    CHECK(role == "system" || role == "user" || role == "assistant",
          "chat: a message of the role %s (system, user and assistant are known)", role.c_str());
  }
  if (form == Form::llama2 || form == Form::mistral) return bracketed(form, messages);
  std::string text;
  const bool has_system = !messages.empty() && messages[0].role == "system";
  if (!has_system && !default_system.empty()) text += marked(form, {"system", default_system}, false);
  for (const ChatMessage& message : messages) text += marked(form, message, false);
  if (answer) text += marked(form, {"assistant", ""}, true);
  return text;
}

// A ChatML program that has a system message of its own spells it out: '<|im_start|>system\n...<|im_end|>\n'.
// A line end is one, or Jinja's two characters for it.
static std::string default_system_in(std::string_view program) {
  constexpr std::string_view beginning = "<|im_start|>system", end = "<|im_end|>";
  for (size_t at = program.find(beginning); at != program.npos; at = program.find(beginning, at)) {
    at += beginning.size();
    std::string_view rest = program.substr(at);
    const size_t line_end = rest.starts_with('\n') ? 1 : rest.starts_with("\\n") ? 2 : 0;
    rest.remove_prefix(line_end);
    const size_t size = rest.find_first_of("'\"<{");
    if (line_end > 0 && size != rest.npos && size > 0 && rest.substr(size).starts_with(end)) {
      return std::string(rest.substr(0, size));
    }
  }
  return "";
}

ChatTemplate chat_template_of(std::string_view program) {
  const auto has = [&](std::string_view text) { return program.find(text) != program.npos; };
  if (program.empty()) return {};
  if (has("<|im_start|>")) return {Form::chatml, default_system_in(program)};
  if (has("<|start_header_id|>")) return {Form::llama3, ""};
  if (has("<<SYS>>")) return {Form::llama2, ""};
  if (has("[INST]")) return {Form::mistral, ""};
  fail(
      "chat: the model's chat template is of no known form (chatml, llama2, llama3, mistral); it begins with "
      "%.60s",
      std::string(program).c_str());
}

}  // namespace supra
