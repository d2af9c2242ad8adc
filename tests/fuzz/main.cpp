#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <cstring>

#include "tensor/parallel.h"
#include "tests/fuzz/mutate.h"
#include "tests/fuzz/parsers.h"
#include "tests/fuzz_formats.h"

// make fuzz: every parser for its share of the time, in a process of its own, with limits on memory and on
// the time of an input.
//   fuzz_parsers SECONDS [PARSER]   a line for each; a finding's bytes stay beside the program; exit 1 if any
//   fuzz_parsers PARSER FILE        the parser's word on the bytes of a file: a finding again
// Built by clang, libFuzzer makes the inputs and follows which of them reach new code; otherwise mutate.h
// does.

using namespace supra;

// A file of at most 64 KB, and 64 MB; all with what the sanitizer itself needs. Freed memory is not kept
// long, so that it does not count.
extern "C" const char* __asan_default_options() {
  return "max_allocation_size_mb=65:quarantine_size_mb=8:allocator_may_return_null=0";
}

namespace {

constexpr int kSecondsOfAnInput = 5;
constexpr long kMostMegabytes = 256;
constexpr size_t kMostBytes = 1 << 16;

struct Job {
  const Parser* parser = nullptr;
  double seconds = 0;
  Path findings, log;
  // What the path of an input that is a finding begins with.
  std::string artifact() const { return (findings / (std::string(parser->name) + "-")).string(); }
};

// Runs in the process of the job. With libFuzzer it returns, its arguments being what it goes on with.
void explore(const Job& job, int* argc, char*** argv);

// The rest of the last line that has the key, or its first word.
std::string after(const std::string& text, const std::string& key, const char* end = " \t\n") {
  size_t at = text.rfind(key);
  if (at == text.npos) return "";
  at = text.find_first_not_of(' ', at + key.size());
  return text.substr(at, text.find_first_of(end, at) - at);
}

// The line of a parser whose process has ended; true where nothing was found.
bool report(const Job& job, int status) {
  const std::string log = read_file(job.log);
  const bool ok = WIFEXITED(status) && WEXITSTATUS(status) == 0;
  const double runs = atof(after(log, "number_of_executed_units:").c_str());
  const std::string coverage = after(log, "cov: ");
  printf("%-20s %9.0f runs %8.0f/s  coverage %5s  ", job.parser->name, runs, runs / job.seconds,
         coverage.empty() ? "-" : coverage.c_str());
  if (ok) {
    puts("ok");
  } else {
    std::string said = after(log, "SUMMARY: ", "\n");
    if (said.empty()) said = after(log, "runtime error: ", "\n");
    printf("FOUND: %s\n  the input is %s, the whole report %s\n",
           said.empty() ? strsignal(WTERMSIG(status)) : said.c_str(),
           after(log, "Test unit written to ").c_str(), job.log.c_str());
  }
  fflush(stdout);
  return ok;
}

const Parser& parser_of(const std::string& name) {
  for (const Parser& parser : parsers()) {
    if (parser.name == name) return parser;
  }
  fprintf(stderr, "there is no parser %s\n", name.c_str());
  exit(2);
}

void run(int* argc, char*** argv) {
  const std::vector<std::string> arguments(*argv + 1, *argv + *argc);
  if (arguments.empty()) {
    fprintf(stderr, "usage: fuzz_parsers SECONDS [PARSER]  |  fuzz_parsers PARSER FILE\n");
    exit(2);
  }
  set_threads(1);
  if (arguments.size() == 2 && !isdigit(arguments[0][0])) {
    const std::string complaint = parser_of(arguments[0]).complaint(read_file(arguments[1]));
    printf("%s\n", complaint.empty() ? "taken" : complaint.c_str());
    exit(0);
  }
  std::vector<const Parser*> chosen;
  for (const Parser& parser : parsers()) chosen.push_back(&parser);
  if (arguments.size() == 2) chosen = {&parser_of(arguments[1])};
  const Path findings = Path((*argv)[0]).parent_path() / "findings";
  create_directories(findings);
  bool ok = true;
  for (const Parser* parser : chosen) {
    const Job job = {parser, std::max(1.0, atof(arguments[0].c_str()) / chosen.size()), findings,
                     findings / (std::string(parser->name) + ".log")};
    const pid_t child = fork();
    if (child == 0) {
      if (!freopen(job.log.c_str(), "w", stderr) || !freopen("/dev/null", "w", stdout)) _exit(3);
      setvbuf(stderr, nullptr, _IONBF, 0);
      return explore(job, argc, argv);
    }
    int status = 0;
    waitpid(child, &status, 0);
    ok = report(job, status) && ok;
  }
  exit(ok ? 0 : 1);
}

#ifdef SUPRA_LIBFUZZER

const Parser* fuzzed = nullptr;

void explore(const Job& job, int* argc, char*** argv) {
  fuzzed = job.parser;
  const Path corpus = job.findings / "corpus" / job.parser->name;
  // what earlier runs found worth keeping is gone on with
  create_directories(corpus);
  for (size_t i = 0; i < job.parser->seeds.size(); i++) {
    FileWriter seed(corpus / std::to_string(i));
    seed.write(job.parser->seeds[i]);
    seed.finish();
  }
  static std::vector<std::string> flags = {(*argv)[0],
                                           format("-max_total_time=%.0f", job.seconds),
                                           format("-timeout=%d", kSecondsOfAnInput),
                                           format("-max_len=%zu", kMostBytes),
                                           "-malloc_limit_mb=65",
                                           format("-rss_limit_mb=%ld", kMostMegabytes),
                                           "-print_final_stats=1",
                                           "-artifact_prefix=" + job.artifact(),
                                           corpus.string()};
  static std::vector<char*> pointers;
  for (std::string& flag : flags) pointers.push_back(flag.data());
  *argc = static_cast<int>(pointers.size());
  pointers.push_back(nullptr);
  *argv = pointers.data();
}

}  // namespace

extern "C" int LLVMFuzzerInitialize(int* argc, char*** argv) {
  run(argc, argv);
  return 0;
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  fuzzed->complaint({reinterpret_cast<const char*>(data), size});
  return 0;
}

#else

// The input in work lies in a file, which is still there when the process is not.
void explore(const Job& job, int*, char***) {
  using Clock = std::chrono::steady_clock;
  const std::string artifact = job.artifact() + "input";
  fprintf(stderr, "Test unit written to %s\n", artifact.c_str());
  const auto end = Clock::now() + std::chrono::duration<double>(job.seconds);
  Philox random(static_cast<uint64_t>(end.time_since_epoch().count()));
  std::vector<std::string> inputs = job.parser->seeds;
  long runs = 0;
  for (; Clock::now() < end; runs++) {
    const std::string input = mutate(inputs, random, kMostBytes);
    write_bytes(artifact, input);
    alarm(kSecondsOfAnInput);
    // what is taken is changed further
    if (job.parser->complaint(input).empty() && inputs.size() < 1000) inputs.push_back(input);
    rusage used;
    getrusage(RUSAGE_SELF, &used);
    CHECK(used.ru_maxrss < kMostMegabytes << 10, "SUMMARY: more than %ld MB are resident", kMostMegabytes);
  }
  alarm(0);
  std::filesystem::remove(artifact);
  fprintf(stderr, "number_of_executed_units: %ld\n", runs);
  exit(0);
}

}  // namespace

int main(int argc, char** argv) { run(&argc, &argv); }

#endif
