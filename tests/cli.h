#pragma once
#include <fcntl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <functional>
#include <map>
#include <thread>

#include "supra/formats/parse/json.h"
#include "tests/fuzz_formats.h"
#include "tests/support.h"

// The program as its user meets it: run as a process, judged by its exit code and by what it prints.

namespace supra {

inline Path program() { return std::filesystem::read_symlink("/proc/self/exe").parent_path() / "supra"; }

struct Outcome {
  int code = -1;  // 128 + signal where it was killed
  std::string out, err;
};

struct Run {
  std::vector<std::string> words;
  std::string input;
  rlim_t file_limit = RLIM_INFINITY;  // bytes a file may have: a full disk
  std::string interrupt_when;         // this is on stderr; empty: never
  std::string folder = ".";           // where it runs
  std::function<bool()> kill_when = {};  // with kill -9
};

inline Outcome run(const Run& r) {
  const TempDir scratch;
  const Path in = scratch.path() / "in", out = scratch.path() / "out", err = scratch.path() / "err";
  write_bytes(in, r.input);
  write_bytes(err, "");
  const pid_t child = fork();
  if (child == 0) {
    dup2(open(in.c_str(), O_RDONLY), 0);
    dup2(open(out.c_str(), O_WRONLY | O_CREAT, 0600), 1);
    dup2(open(err.c_str(), O_WRONLY | O_CREAT, 0600), 2);
    if (chdir(r.folder.c_str()) != 0) _exit(126);
    if (r.file_limit != RLIM_INFINITY) {
      const rlimit limit = {r.file_limit, r.file_limit};
      setrlimit(RLIMIT_FSIZE, &limit);
      signal(SIGXFSZ, SIG_IGN);
    }
    const std::string path = program().string();
    std::vector<char*> argv = {const_cast<char*>(path.c_str())};
    for (const std::string& word : r.words) argv.push_back(const_cast<char*>(word.c_str()));
    argv.push_back(nullptr);
    execv(argv[0], argv.data());
    _exit(127);
  }
  int status = 0;
  if (!r.interrupt_when.empty() || r.kill_when) {
    while (waitpid(child, &status, WNOHANG) == 0) {
      if (r.kill_when ? r.kill_when() : read_file(err).find(r.interrupt_when) != std::string::npos) {
        kill(child, r.kill_when ? SIGKILL : SIGINT);
        waitpid(child, &status, 0);
        break;
      }
      std::this_thread::sleep_for(std::chrono::milliseconds(r.kill_when ? 1 : 20));
    }
  } else {
    waitpid(child, &status, 0);
  }
  return {WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status), read_file(out), read_file(err)};
}

inline Outcome supra_run(std::vector<std::string> words) {
  return run(Run{std::move(words), "", RLIM_INFINITY, ""});
}

#define EXPECT_SAYS(text, part) EXPECT_NE((text).find(part), std::string::npos) << (text)

// A tiny model trained by the program itself, once for all tests.
class CliTest : public testing::Test {
 protected:
  void SetUp() override {
    if (!std::filesystem::exists(program())) GTEST_SKIP() << program() << " is not built";
  }
  static void SetUpTestSuite() {
    if (!std::filesystem::exists(program())) return;
    directory = new TempDir;
    std::string text;
    for (int i = 0; i < 300; i++) text += format("story %d has a beginning and an end\n<end>\n", i);
    write_bytes(at("text.txt"), text);
    write_bytes(at("config.json"),
                R"({"hidden_dim":32,"n_layers":2,"n_heads":4,"vocab_size":256,"seq_len":64,)"
                R"("intermediate_dim_ffn":48,"model_norm":"rms_norm","weight_tying":true})");
    trained = supra_run({"train", at("config.json"), "-o", at("teacher"), "--data", at("text.txt"), "--docs",
                         "<end>", "--tokens", "5k", "--tokenizer", "bytes", "--json"});
    linearized = supra_run({"linearize", at("teacher"), "-o", at("student"), "--json"});
  }
  static void TearDownTestSuite() { delete directory; }
  static std::string at(const std::string& name) { return (directory->path() / name).string(); }

  // Exit 1, one line on stderr, and each of these parts in it.
  static void expect_error(const Outcome& outcome, std::initializer_list<std::string> parts) {
    EXPECT_EQ(outcome.code, 1) << outcome.err;
    EXPECT_EQ(std::count(outcome.err.begin(), outcome.err.end(), '\n'), 1) << outcome.err;
    for (const std::string& part : parts) EXPECT_SAYS(outcome.err, part);
  }

  // One JSON object and nothing else, with these keys.
  static Json expect_json(const Outcome& outcome, std::initializer_list<const char*> keys) {
    EXPECT_EQ(outcome.code, 0) << outcome.err;
    Json json = Json::parse(outcome.out, "stdout");
    for (const char* key : keys) EXPECT_TRUE(json.find(key)) << key << " is not in " << outcome.out;
    return json;
  }

  static inline TempDir* directory = nullptr;
  static inline Outcome trained, linearized;
};

}  // namespace supra
