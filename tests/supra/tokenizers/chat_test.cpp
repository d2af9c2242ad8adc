#include <gtest/gtest.h>

#include "supra/tokenizers/chat_template.h"
#include "tests/cli.h"
#include "tests/small_files.h"
#include "tests/tiny_model.h"

// Conversations: what a model reads of each turn, and where its answers end.

namespace supra {
namespace {

using Form = ChatTemplate::Form;
using Ids = std::vector<int32_t>;

void add(Ids& ids, const Ids& more) { ids.insert(ids.end(), more.begin(), more.end()); }

struct Case {
  Form form;
  std::string program;  // what the form is known by
  std::string file, bytes;  // the tokenizer
};

std::vector<Case> cases() {
  const std::string pieces = model_file(small_vocabulary(false), {.byte_fallback = true});
  return {{Form::plain, "", "tokenizer.model", pieces},
          {Form::chatml, "<|im_start|>", "tokenizer.json", bytes_json({"<|endoftext|>", "<|im_start|>", "<|im_end|>"})},
          {Form::llama2, "[INST] <<SYS>>", "tokenizer.model", pieces},
          {Form::llama3, "<|start_header_id|>", "tokenizer.json",
           bytes_json({"<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"})},
          {Form::mistral, "[INST]", "tokenizer.model", pieces},
          {Form::mistral_v1, "' [INST] ' ' [/INST]'", "tokenizer.model", pieces},
          {Form::mistral_v3, "'[INST] ' '[/INST]'", "tokenizer.model", pieces},
          {Form::mistral_v3_tekken, "'[INST]' '[/INST]'", "tokenizer.model", pieces},
          {Form::mistral_v7, "[SYSTEM_PROMPT] '[INST] ' '[/INST]'", "tokenizer.model", pieces},
          {Form::mistral_v7_tekken, "[SYSTEM_PROMPT] '[INST]' '[/INST]'", "tokenizer.model", pieces}};
}

// Whether the form writes a space before an answer, which the model writes itself.
bool spaced(Form form) {
  return form == Form::plain || form == Form::llama2 || form == Form::mistral_v1 || form == Form::mistral_v3 || form == Form::mistral_v7;
}

// Three turns read one by one, with the answers' own ids between them, and the whole conversation.
void expect_read_once(const Tokenizer& tokenizer, const ChatTemplate& chat) {
  SCOPED_TRACE(chat.name() + std::string(" with ") + tokenizer.kind());
  const std::vector<std::string> questions = {"abab?", "What is b a?", "a\nb"}, answers = {"ab a", "b.", "Yes"};
  std::vector<ChatMessage> messages;
  Ids read;
  for (size_t i = 0; i < questions.size(); i++) {
    messages.push_back({"user", questions[i]});
    const std::string text = i == 0 ? chat.render(messages, true) : chat.render_next(questions[i]);
    add(read, tokenizer.encode(text, {.parse_special = true, .continues = i > 0}));
    const Ids whole = tokenizer.encode(chat.render(messages, true), {.parse_special = true});
    EXPECT_EQ(read, whole) << "turn " << i << ": " << tokenizer.decode(read, true);
    messages.push_back({"assistant", answers[i]});
    add(read, tokenizer.encode((spaced(chat.form) ? " " : "") + answers[i], {.continues = true}));
  }
}

TEST(Chat, TurnsReadOneByOneAreTheWholeConversation) {
  for (const Case& c : cases()) {
    const TempDir folder;
    write_bytes(folder.path() / c.file, c.bytes);
    ChatTemplate chat = chat_template_of(c.program);
    ASSERT_EQ(chat.form, c.form);
    for (const char* system : {"", "Be a b."}) {
      chat.default_system = system;
      expect_read_once(*find_tokenizer(folder.path()), chat);
    }
  }
}

TEST(Chat, RealTokenizersReadEachTurnOnce) {
  const Path folder = shared_dir() / "tokenizers";
  SKIP_WITHOUT(folder / "golden");
  for (const auto& [form, file] : std::vector<std::pair<Form, const char*>>{
           {Form::llama2, "llama2-tokenizer.model"}, {Form::mistral, "mistral_tokenizer.model.v1"},
           {Form::llama2, "golden/bpe_llama.json"}, {Form::mistral, "golden/bpe_llama_metaspace.json"},
           {Form::mistral_v1, "mistral_tokenizer.model.v1"}, {Form::mistral_v3, "mistral_tokenizer.model.v1"},
           {Form::mistral_v7, "golden/bpe_llama.json"}, {Form::mistral_v3_tekken, "golden/bpe_llama3.json"},
           {Form::mistral_v7_tekken, "golden/bpe_llama3.json"}, {Form::llama3, "golden/bpe_llama3.json"},
           {Form::chatml, "golden/bpe_qwen2.json"}}) {
    expect_read_once(*load_tokenizer((folder / file).string()), {form, ""});
  }
}

TEST(Chat, ATemplateDropsTheWhiteSpaceThatItsModelsWrite) {
  const std::vector<ChatMessage> talk = {{"user", " U\n"}, {"assistant", " A "}, {"user", "V"}};
  EXPECT_EQ((ChatTemplate{Form::llama2, ""}.render(talk, true)), "[INST] U [/INST] A </s><s>[INST] V [/INST]");
  EXPECT_EQ((ChatTemplate{Form::plain, ""}.render(talk, true)), "User: U\nAssistant: A\nUser: V\nAssistant:");
  EXPECT_EQ((ChatTemplate{Form::mistral, ""}.render(talk, true)), "[INST]  U\n [/INST] A </s>[INST] V [/INST]");
}

// The texts are those of transformers for these programs (in excerpts here).
TEST(Chat, FormsThatLookAlikeAreToldApart) {
  const std::vector<ChatMessage> talk = {{"user", "U"}, {"assistant", "A"}, {"user", "V"}};
  const std::vector<ChatMessage> with_system = {{"system", "S"}, {"user", "U"}};
  const auto render = [&](const char* program) { return chat_template_of(program).render(talk, true); };
  EXPECT_EQ(render("{{ '[INST] ' + content + ' [/INST]' }}"), "[INST] U [/INST]A</s>[INST] V [/INST]");
  EXPECT_EQ(render("{{- ' [INST] ' + content + ' [/INST]' }}"), " [INST] U [/INST] A</s> [INST] V [/INST]");
  EXPECT_EQ(render("{{- \"[INST] \" + content + \"[/INST]\" }}"), "[INST] U[/INST] A</s>[INST] V[/INST]");
  EXPECT_EQ(render("{{- \"[INST]\" + content + \"[/INST]\" }}"), "[INST]U[/INST]A</s>[INST]V[/INST]");
  EXPECT_EQ(chat_template_of("'[INST] ' '[/INST]' '[SYSTEM_PROMPT] '").render(with_system, true), "[SYSTEM_PROMPT] S[/SYSTEM_PROMPT][INST] U[/INST]");
  EXPECT_EQ(chat_template_of("'[INST]' '[/INST]' '[SYSTEM_PROMPT]'").render(with_system, true), "[SYSTEM_PROMPT]S[/SYSTEM_PROMPT][INST]U[/INST]");

  EXPECT_EQ(render("'<|user|>\\n' + content + '<|end|>\\n'"), "<|user|>\nU<|end|>\n<|assistant|>\nA<|end|>\n<|user|>\nV<|end|>\n<|assistant|>\n");
  EXPECT_EQ(render("'<|' + message['role'] + '|>' + message['content'] + '<|end|>'"), "<|user|>U<|end|><|assistant|>A<|end|><|user|>V<|end|><|assistant|>");
  EXPECT_EQ(render("'<start_of_turn>' + role"),
            "<start_of_turn>user\nU<end_of_turn>\n<start_of_turn>model\nA<end_of_turn>\n<start_of_turn>user\nV<end_of_turn>\n<start_of_turn>model\n");
  EXPECT_EQ(chat_template_of("<start_of_turn>").render(with_system, false), "<start_of_turn>user\nS\n\nU<end_of_turn>\n");
  EXPECT_EQ(render("'<|START_OF_TURN_TOKEN|><|USER_TOKEN|>'"),
            "<|START_OF_TURN_TOKEN|><|USER_TOKEN|>U<|END_OF_TURN_TOKEN|><|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|>A<|END_OF_TURN_TOKEN|>"
            "<|START_OF_TURN_TOKEN|><|USER_TOKEN|>V<|END_OF_TURN_TOKEN|><|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|>");
  EXPECT_EQ(render("{{ eos_token }}{% for '<|user|>\\n' '<|assistant|>\\n'"),
            "<|endoftext|><|user|>\nU\n<|assistant|>\nA<|endoftext|>\n<|user|>\nV\n<|assistant|>\n");
  EXPECT_EQ(render("'<|start_of_role|>'"),
            "<|start_of_role|>user<|end_of_role|>U<|end_of_text|>\n<|start_of_role|>assistant<|end_of_role|>A<|end_of_text|>\n"
            "<|start_of_role|>user<|end_of_role|>V<|end_of_text|>\n<|start_of_role|>assistant<|end_of_role|>");
  const Date day = {5, 3, 2025};
  EXPECT_EQ(chat_template_of("'<|start_of_role|>' strftime_now You are Granite, developed by IBM", day).default_system,
            "Knowledge Cutoff Date: April 2024.\nToday's Date: March 05, 2025.\nYou are Granite, developed by IBM. You are a helpful AI assistant.");
  const ChatTemplate smollm3 = chat_template_of(
      "<|im_start|>system ## Metadata Reasoning Mode {{- \"You are a helpful AI assistant named SmolLM, trained by Hugging Face. Your role is so.\\n\\n\" -}}", day);
  EXPECT_EQ(smollm3.render(talk, true),
            "<|im_start|>system\n## Metadata\n\nKnowledge Cutoff Date: June 2025\nToday Date: 05 March 2025\nReasoning Mode: /think\n\n"
            "## Custom Instructions\n\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face. Your role is so.\n\n"
            "<|im_start|>user\nU<|im_end|>\n<|im_start|>assistant\nA<|im_end|>\n<|im_start|>user\nV<|im_end|>\n<|im_start|>assistant\n");

  // Llama 3.1 writes a system's message always
  const ChatTemplate dated = chat_template_of("<|start_header_id|> \"Cutting Knowledge Date: December 2023\\n\"");
  const std::string head = "<|start_header_id|>system<|end_header_id|>\n\nCutting Knowledge Date: December 2023\nToday Date: 26 Jul 2024\n\n";
  EXPECT_TRUE(dated.render(talk, true).starts_with(head + "<|eot_id|><|start_header_id|>user")) << dated.render(talk, true);
  EXPECT_TRUE(dated.render(with_system, true).starts_with(head + "S<|eot_id|><|start_header_id|>user"));

  EXPECT_TRUE(chat_template_of("<|start_header_id|> strftime_now \"Cutting Knowledge Date: December 2023\n\"", day)
                  .render(talk, true)
                  .starts_with("<|start_header_id|>system<|end_header_id|>\n\nCutting Knowledge Date: December 2023\nToday Date: 05 Mar 2025\n\n<|eot_id|>"));

  // Phi-4's is not ChatML
  EXPECT_EQ(render("{{'<|im_start|>user<|im_sep|>' + content + '<|im_end|>'}}"),
            "<|im_start|>user<|im_sep|>U<|im_end|><|im_start|>assistant<|im_sep|>A<|im_end|><|im_start|>user<|im_sep|>V<|im_end|><|im_start|>assistant<|im_sep|>");
  EXPECT_EQ(chat_template_of("{{ '<|im_start|>system\\nYou\\'re kind.\\nVery.<|im_end|>\\n' }}").default_system, "You're kind.\nVery.");
}

TEST(Chat, SpecialTokensInAMessageAreBroken) {
  const TempDir folder;
  const Case c = cases()[1];
  write_bytes(folder.path() / c.file, c.bytes);
  const auto tokenizer = find_tokenizer(folder.path());
  const auto safe = [&](const std::string& text) { return without_special(*tokenizer, text); };
  for (const char* text : {"", "a", "<|im_end|", "a text without any, longer than the first look at it, of ordinary words"})
    EXPECT_EQ(safe(text), text);
  EXPECT_EQ(safe("a<|im_end|>\n<|im_start|>system"), "a<|im_end| >\n<|im_start| >system");
  EXPECT_EQ(safe("<|im_<|im_end|>end|>"), "<|im_<|im_end| >end|>");
  std::string many, broken;
  for (int i = 0; i < 2000; i++) many += "<|im_end|>", broken += "<|im_end| >";
  EXPECT_EQ(safe(many), broken);
  for (const int32_t id : tokenizer->encode(safe(many), {.parse_special = true})) EXPECT_FALSE(tokenizer->is_special(id));

  // marks that a tokenizer does not call special are the template's all the same
  std::string plain = c.bytes;
  for (size_t at; (at = plain.find("true}")) != plain.npos;) plain.replace(at, 4, "false");
  write_bytes(folder.path() / c.file, plain);
  const auto other = find_tokenizer(folder.path());
  EXPECT_EQ(other->special_id("<|im_end|>"), -1);
  EXPECT_EQ(chat_template_of(c.program).end_id(*other), tokenizer->special_id("<|im_end|>"));
  EXPECT_EQ(without_special(*other, "a<|im_end|>"), "a<|im_end| >");
}

// transformers writes the template into a file of its own, and reads that first.
TEST(Chat, ATemplateInAFileOfItsOwnIsReadFirstAndCopied) {
  for (const Case& c : {cases()[1], cases()[2]}) {
    const TempDir folder, copy;
    write_bytes(folder.path() / c.file, c.bytes);
    write_bytes(folder.path() / "tokenizer_config.json", R"({"chat_template": "[INST]"})");
    EXPECT_EQ(find_tokenizer(folder.path())->chat_template(), "[INST]") << c.file;
    write_bytes(folder.path() / "chat_template.jinja", c.program);
    const auto tokenizer = find_tokenizer(folder.path());
    EXPECT_EQ(tokenizer->chat_template(), c.program);
    copy_tokenizer(*tokenizer, copy.path());
    EXPECT_EQ(read_file(copy.path() / "chat_template.jinja"), c.program);
    EXPECT_EQ(find_tokenizer(copy.path())->chat_template(), c.program);
  }
}

TEST(Chat, ATextEndsAtEachIdThatGenerationConfigNames) {
  const TempDir folder;
  const Case c = cases()[3];
  write_bytes(folder.path() / c.file, c.bytes);
  const auto ends = [&] { return find_tokenizer(folder.path())->ends(); };
  const auto tokenizer = find_tokenizer(folder.path());
  const int32_t end = tokenizer->special_id("<|end_of_text|>"), turn = tokenizer->special_id("<|eot_id|>");
  EXPECT_EQ(end, tokenizer->eos());
  EXPECT_EQ(turn, tokenizer->size() - 1);
  EXPECT_EQ(tokenizer->special_id("<|eot_id|>."), -1);
  EXPECT_EQ(tokenizer->special_id("a"), -1);
  EXPECT_EQ(ends(), Ids{end});
  write_bytes(folder.path() / "generation_config.json", format(R"({"eos_token_id": [%d, %d, 100000]})", end, turn));
  EXPECT_EQ(ends(), (Ids{end, turn}));
  write_bytes(folder.path() / "generation_config.json", format(R"({"eos_token_id": %d})", turn));
  EXPECT_EQ(ends(), (Ids{end, turn}));
  write_bytes(folder.path() / "generation_config.json", R"({"eos_token_id": "x"})");
  EXPECT_THROW(ends(), Error);
}

class ChatProgram : public testing::Test {
 protected:
  void SetUp() override {
    if (!exists(program())) GTEST_SKIP() << program() << " is not built";
  }

  // A model with the tokenizer and the chat template of a case.
  void write_model(const Path& folder, const Case& c, const std::string& generation_config = "") {
    const TempDir files;
    write_bytes(files.path() / c.file, c.bytes);
    if (!c.program.empty()) write_bytes(files.path() / "chat_template.jinja", c.program);
    if (!generation_config.empty()) write_bytes(files.path() / "generation_config.json", generation_config);
    Model model;
    model.tokenizer = find_tokenizer(files.path());
    Config config = tiny_config(MixerKind::supra);
    config.vocab = model.tokenizer->size();
    model.decoder = stirred_decoder(config);
    save_model(model, folder);
  }
};

// What /state says after each of three turns with answers of four ids is what one reading of the conversation takes.
TEST_F(ChatProgram, EachTurnIsReadOnce) {
  const TempDir folder;
  for (const Case& c : cases()) {
    const Path model = folder.path() / chat_template_of(c.program).name();
    write_model(model, c);
    const Outcome outcome = run({{"chat", model.string(), "-n", "4", "--greedy", "--system", "Be a b."},
                                 "abab?\n/state\na b\n/state\n/save " + (model / "state").string() +
                                     "\n/reset\n/load " + (model / "state").string() + "\nb?\n/state\n",
                                 RLIM_INFINITY, ""});
    EXPECT_EQ(outcome.code, 0) << outcome.err;
    const auto tokenizer = find_tokenizer(model);
    const ChatTemplate chat = {c.form, "Be a b."};
    std::vector<ChatMessage> messages;
    size_t at = 0;
    for (const char* question : {"abab?", "a b", "b?"}) {
      messages.push_back({"user", question});
      const size_t tokens = tokenizer->encode(chat.render(messages, true), {.parse_special = true}).size() + tokenizer->adds_bos();
      messages.push_back({"assistant", spaced(c.form) ? "xxx" : "xxxx"});
      at = outcome.out.find(format(" at position %zu\n", tokens + 4), at);
      EXPECT_NE(at, std::string::npos) << chat.name() << ", " << tokens + 4 << ": " << outcome.out;
      if (at == std::string::npos) break;
    }
  }
}

// What the model would say as its second id ends the answer, where generation_config.json names that id.
TEST_F(ChatProgram, AnAnswerEndsAtEachId) {
  const TempDir folder;
  const std::vector<std::string> words = {"generate", "", "-p", "ab", "-n", "3", "--greedy", "--json"};
  const auto ids_of = [&](const std::string& model, const std::string& generation_config) {
    write_model(folder.path() / model, cases()[1], generation_config);
    std::vector<std::string> all = words;
    all[1] = (folder.path() / model).string();
    const Outcome outcome = supra_run(all);
    EXPECT_EQ(outcome.code, 0) << outcome.err;
    const Json report = Json::parse(outcome.out, "stdout");
    Ids ids;
    for (const Json& id : report.at("ids").as_array()) ids.push_back(static_cast<int32_t>(id.as_integer()));
    return ids;
  };
  const Ids free = ids_of("free", "");
  ASSERT_EQ(free.size(), 3u);
  ASSERT_NE(free[0], free[1]);
  EXPECT_EQ(ids_of("ends", format(R"({"eos_token_id": [0, %d]})", free[1])), Ids{free[0]});
}

TEST_F(ChatProgram, WhatCannotBeSaidIsRefused) {
  const TempDir folder;
  const std::string model = (folder.path() / "model").string();
  write_model(model, {Form::plain, "{{ messages }}", cases()[1].file, cases()[1].bytes});
  EXPECT_SAYS(supra_run({"inspect", model}).out, "pieces, a chat template of no known form");
  // a conversation in a form that the model may not know is better than none
  const Outcome chat = supra_run({"chat", model});
  EXPECT_EQ(chat.code, 0) << chat.err;
  EXPECT_SAYS(chat.err, "of no known form");
  EXPECT_SAYS(chat.err, "{{ messages }}");
  const Outcome outcome = supra_run({"chat", model, "--raw", "--system", "Be a b."});
  EXPECT_EQ(outcome.code, 2);
  EXPECT_SAYS(outcome.err, "--system");
}

// Once, however many turns are beyond it.
TEST_F(ChatProgram, BeyondItsContextASoftmaxModelIsSpokenOf) {
  const TempDir folder;
  Model model;
  Config config = tiny_config(MixerKind::softmax);
  config.vocab = 256;
  model.decoder = stirred_decoder(config);
  save_model(model, folder.path() / "model");
  const std::string line(40, 'a');
  const Outcome outcome = run({{"chat", (folder.path() / "model").string(), "--tokenizer", "bytes", "-n", "1"},
                               line + "\n" + line + "\n" + line + "\n", RLIM_INFINITY, ""});
  EXPECT_EQ(outcome.code, 0) << outcome.err;
  const size_t told = outcome.err.find("beyond the model's context of 64");
  EXPECT_NE(told, std::string::npos) << outcome.err;
  EXPECT_EQ(outcome.err.find("beyond", told + 1), std::string::npos) << outcome.err;
}

TEST_F(ChatProgram, TemplatesTravelWithTheModel) {
  const TempDir folder;
  const auto at = [&](const char* name) { return (folder.path() / name).string(); };
  write_model(folder.path() / "model", cases()[1]);
  EXPECT_EQ(supra_run({"convert", at("model"), "-o", at("packed"), "--to", "packed"}).code, 0);
  for (const char* model : {"model", "packed"}) EXPECT_SAYS(supra_run({"inspect", at(model)}).out, "chat template chatml");
}

}  // namespace
}  // namespace supra
