#include <chrono>
#include <cstdio>
#include <string>

#include "supra/inference/generate.h"
#include "supra/tokenizers/chat_template.h"
#include "tools/command.h"
#include "tools/device_flags.h"
#include "tools/human.h"
#include "tools/interrupt.h"
#include "tools/sampling_flags.h"

namespace supra {
namespace {

constexpr const char* kHelp =
    "Type a line and the model goes on from it; the state is kept from line to line.\n"
    "/save F  /load F  keep the state in a file, go on from one      /reset  forget everything\n"
    "/raw     text as it is, or back to the model's chat template\n"
    "/state   its size                                               /quit   or Ctrl-D\n";

// The model's template, with today's date if it needs one; the plain form if it is unknown.
ChatTemplate known_template(const std::string& program) {
  using namespace std::chrono;
  const year_month_day today(floor<days>(system_clock::now()));
  const Date date = {static_cast<int>(unsigned{today.day()}), static_cast<int>(unsigned{today.month()}), int{today.year()}};
  try {
    return chat_template_of(program, date);
  } catch (const Error& error) {
    fprintf(stderr, "%s; messages stand as User: and Assistant: instead, which the model may not know\n", error.what());
    return {};
  }
}

class Chat {
 public:
  Chat(const Model& model, const SamplerOptions& sampling, GenerateOptions options, const std::string& system,
       bool raw)
      : config_(model.config()),
        tokenizer_(tokenizer_of(model)),
        session_(model),
        sampler_(sampling),
        options_(std::move(options)),
        raw_(raw) {
    if (!raw_) template_ = known_template(tokenizer_.chat_template());
    raw_ = raw_ || (tokenizer_.chat_template().empty() && system.empty());
    if (!system.empty()) template_.default_system = system;
    options_.ends = {template_.end_id(tokenizer_)};
    options_.should_stop = interrupted;
    options_.on_text = [](const std::string& text) {
      fputs(text.c_str(), stdout);
      fflush(stdout);
    };
  }

  // False when the conversation is over.
  bool turn(const std::string& line) {
    if (line == "/quit" || line == "/exit") return false;
    if (!line.empty() && line[0] == '/') {
      try {
        command(line);
      } catch (const Error& error) {
        printf("%s\n", error.what());
      }
      return true;
    }
    std::vector<int32_t> ids = raw_ ? tokenizer_.encode(line) : what_is_new(line);
    if (session_.position() == 0 && tokenizer_.adds_bos()) ids.insert(ids.begin(), tokenizer_.bos());
    if (ids.empty() && !session_.logits().defined()) return true;
    if (!ids.empty()) session_.feed(ids);
    history_.insert(history_.end(), ids.begin(), ids.end());
    // Ctrl-C now ends this answer, not the program
    catch_interrupts();
    generate(session_, &tokenizer_, sampler_, history_, options_);
    answered_ = answered_ || !raw_;
    printf("\n");
    tell_once_where_beyond_context();
    return true;
  }

 private:
  // The ids of the conversation, with this line at its end, that the model has not read yet.
  std::vector<int32_t> what_is_new(const std::string& line) const {
    if (answered_) return tokenizer_.encode(template_.render_next(line), {.parse_special = true, .continues = true});
    return tokenizer_.encode(template_.render({{{"user", line}}}, true), {.parse_special = true});
  }

  void tell_once_where_beyond_context() {
    const std::string beyond = beyond_context(config_, session_.position());
    if (!beyond.empty() && !told_) fprintf(stderr, "%s\n", beyond.c_str());
    told_ = !beyond.empty();
  }

  void command(const std::string& line) {
    const std::string name = line.substr(0, line.find(' '));
    const size_t begin = line.find_first_not_of(' ', name.size());
    const std::string file = begin == line.npos ? "" : line.substr(begin);
    if (name == "/reset") {
      session_.reset();
      history_.clear();
      answered_ = false;
      printf("the state is empty\n");
    } else if (name == "/raw") {
      raw_ = !raw_;
      printf("%s\n", raw_ ? "text as it is" : template_.name());
    } else if (name == "/state") {
      printf("%s at position %ld\n", format_bytes(static_cast<double>(session_.state_bytes())).c_str(),
             static_cast<long>(session_.position()));
    } else if (name == "/save" || name == "/load") {
      CHECK(!file.empty(), "%s needs a file name", name.c_str());
      if (name == "/save") {
        session_.save(file);
      } else {
        print_note(session_.load(file));
        history_.clear();
        // a state is saved after an answer
        answered_ = session_.position() > 0;
      }
      printf("%s %s, position %ld\n", name == "/save" ? "saved" : "loaded", file.c_str(),
             static_cast<long>(session_.position()));
    } else {
      fputs(kHelp, stdout);
    }
  }

  const Config& config_;
  const Tokenizer& tokenizer_;
  Session session_;
  Sampler sampler_;
  GenerateOptions options_;
  std::vector<int32_t> history_;
  bool raw_;
  ChatTemplate template_;
  // The session has just read an answer of the conversation.
  bool answered_ = false;
  // The user was told that the session is beyond the model's context.
  bool told_ = false;
};

// Reads a line without its newline; false at the end.
bool read_line(std::string& line) {
  line.clear();
  int c;
  while ((c = getchar()) != EOF && c != '\n') line += static_cast<char>(c);
  return c != EOF || !line.empty();
}

}  // namespace

int run_chat(Args& args) {
  Path input;
  std::string tokenizer_file, system;
  bool raw = false;
  GenerateOptions options;
  SamplingFlags sampling;
  DeviceFlags device;
  args.positional(&input, "MODEL", "a folder or a file");
  args.flag(&options.tokens, "--tokens -n", "N", "largest number of tokens of an answer").at_least(1);
  args.flag(&options.stop, "--stop", "S", "texts that end an answer");
  args.flag(&system, "--system", "S", "the system message, instead of the model's default");
  args.flag(&raw, "--raw", "feed lines unchanged, without the model's chat template");
  sampling.declare(args);
  args.flag(&tokenizer_file, "--tokenizer", "FILE", "tokenizer to use instead of the one beside the model");
  device.declare(args);
  common_flags(args);
  args.parse();
  device.check(args);
  if (raw && !system.empty()) throw UsageError("--system needs the chat template, which --raw leaves out");

  const Model model = load_model(input, tokenizer_file, Weights::folded);
  device.place(*model.decoder);
  Chat chat(model, sampling.finish(), options, system, raw);
  fputs(kHelp, stdout);
  std::string line;
  while (true) {
    printf("> ");
    fflush(stdout);
    if (!read_line(line) || !chat.turn(line)) break;
  }
  return 0;
}

}  // namespace supra
