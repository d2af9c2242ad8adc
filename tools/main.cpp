#include <csignal>
#include <cstdio>
#include <exception>

#include "tools/command.h"

// The program: finds the command, runs it with its arguments, and turns an exception into one line and an exit code.

#ifndef SUPRA_VERSION
#define SUPRA_VERSION "0.1"
#endif

namespace supra {
namespace {

#define SUPRA_ROW(name, summary) {#name, summary, run_##name},
#if defined(SUPRA_INFERENCE)
#define SUPRA_WORKSHOP_ROW(name, summary) {#name, summary, nullptr},
#else
#define SUPRA_WORKSHOP_ROW SUPRA_ROW
#endif
constexpr Command kCommands[] = {SUPRA_COMMANDS(SUPRA_ROW, SUPRA_WORKSHOP_ROW)};

std::string overview() {
  std::string text =
#if defined(SUPRA_INFERENCE)
      "supra runs recurrent models and transformers; this program cannot make, train or measure them.\n\n"
#else
      "supra turns a transformer into a recurrent model, trains it and runs it.\n\n"
#endif
      "usage: supra <command> [words]\n\n";
  for (const Command& command : kCommands) {
    if (command.run) text += format("  %-12s%s\n", command.name, command.summary);
  }
  return text + "\nsupra <command> --help shows the flags of a command; supra --version shows the version.\n";
}

const Command& find_command(const std::string& name) {
  std::vector<std::string> names;
  for (const Command& command : kCommands) {
    if (name == command.name && !command.run)
      throw UsageError("'" + name + "' is not in this program, which only runs models (make builds a program with all commands)");
    if (name == command.name) return command;
    if (command.run) names.push_back(command.name);
  }
  throw UsageError("unknown command '" + name + "'" + nearest_hint(name, names));
}

// Runs a command and prints its error to stderr.
int run(const Command& command, std::vector<std::string> words) {
  Args args(command.name, command.summary, std::move(words));
  try {
    return command.run(args);
  } catch (const HelpWanted&) {
    fputs(args.help().c_str(), stdout);
    return 0;
  } catch (const UsageError& error) {
    fprintf(stderr, "supra %s: %s\n%s   (supra %s --help shows all flags)\n", command.name, error.what(),
            args.usage().c_str(), command.name);
    return 2;
  } catch (const std::exception& error) {
    fprintf(stderr, "supra %s: %s\n", command.name, error.what());
    return 1;
  }
}

int run(std::vector<std::string> words) {
  if (words.empty() || words[0] == "--help" || words[0] == "-h" || words[0] == "help") {
    fputs(overview().c_str(), stdout);
    return 0;
  }
  if (words[0] == "--version") {
    puts("supra " SUPRA_VERSION);
    return 0;
  }
  try {
    const Command& command = find_command(words[0]);
    words.erase(words.begin());
    return run(command, std::move(words));
  } catch (const UsageError& error) {
    fprintf(stderr, "supra: %s\n(supra --help lists the commands)\n", error.what());
    return 2;
  }
}

}  // namespace
}  // namespace supra

int main(int argc, char** argv) {
  // If the reader of a pipe ends (| head), the program ends silently, whatever the parent process has set.
  std::signal(SIGPIPE, SIG_DFL);
  const int code = supra::run(std::vector<std::string>(argv + 1, argv + argc));
  // If the results could not be written, for example to a full disk, the program has failed.
  if (fflush(stdout) != 0 || ferror(stdout)) {
    perror("supra: stdout");
    return 1;
  }
  return code;
}
