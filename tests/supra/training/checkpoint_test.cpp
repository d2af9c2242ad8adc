#include "supra/training/checkpoint.h"

#include <gtest/gtest.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <fstream>
#include <functional>
#include <set>

#include "tests/support.h"
#include "tests/tiny_model.h"

namespace supra {
namespace {

namespace fs = std::filesystem;

// All that a checkpoint holds.
struct Moment {
  explicit Moment(uint64_t seed, int64_t step = 0) : model(byte_model(MixerKind::supra, seed)) {
    std::vector<Trained> parameters;
    model.decoder->visit([&](const std::string& name, Var& p) { parameters.push_back({name, p}); });
    optimizer = std::make_unique<Optimizer>(parameters, AdamwOptions());
    for (Trained& p : optimizer->parameters()) {
      p.m = random_normal(p.parameter.shape(), ++seed);
      p.v = random_normal(p.parameter.shape(), ++seed);
    }
    state.step = step;
    state.facts.seed = seed;
  }

  Path save(const Path& run, int keep = 1) { return save_checkpoint(run, model, *optimizer, state, keep); }

  bool operator==(const Moment& other) const {
    const std::vector<Trained>&a = optimizer->parameters(), &b = other.optimizer->parameters();
    const auto same = [](const Trained& x, const Trained& y) {
      return x.name == y.name && same_bits(x.parameter.value(), y.parameter.value()) && same_bits(x.m, y.m) &&
             same_bits(x.v, y.v);
    };
    return state == other.state && std::equal(a.begin(), a.end(), b.begin(), b.end(), same);
  }

  Model model;
  std::unique_ptr<Optimizer> optimizer;
  TrainingState state;
};

Moment load(const Path& checkpoint) {
  Moment moment(99);
  moment.state = load_checkpoint(checkpoint, moment.model, *moment.optimizer);
  return moment;
}

bool same_weights(const Model& a, const Model& b) {
  std::vector<Tensor> weights;
  a.decoder->visit([&](const std::string&, Var& p) { weights.push_back(p.value()); });
  size_t i = 0;
  bool same = a.decoder->parameter_count() == b.decoder->parameter_count();
  b.decoder->visit([&](const std::string&, Var& p) { same = same && same_bits(weights[i++], p.value()); });
  return same;
}

std::set<std::string> names_in(const Path& folder) {
  std::set<std::string> names;
  for (const auto& entry : fs::directory_iterator(folder)) names.insert(entry.path().filename());
  return names;
}

struct Call {
  pid_t process;
  uint64_t number;
  const uint64_t* arguments;

  // What the descriptor in the first argument is open for.
  Path file() const {
    std::error_code error;
    return fs::read_symlink(format("/proc/%d/fd/%lu", process, static_cast<unsigned long>(arguments[0])),
                            error);
  }
};

// Runs f in another process and shows each system call before it is made; the process is killed there where
// `goes_on` says no. Returns whether f came to its end.
bool run_traced(const std::function<void()>& f, const std::function<bool(const Call&)>& goes_on) {
  const pid_t child = fork();
  if (child == 0) {
    if (ptrace(PTRACE_TRACEME, 0, nullptr, nullptr) != 0) _exit(1);
    raise(SIGSTOP);
    try {
      f();
    } catch (...) {
      _exit(1);
    }
    _exit(0);
  }
  int status = 0;
  waitpid(child, &status, 0);
  if (WIFSTOPPED(status))
    ptrace(PTRACE_SETOPTIONS, child, nullptr, PTRACE_O_EXITKILL | PTRACE_O_TRACESYSGOOD);
  while (WIFSTOPPED(status)) {
    __ptrace_syscall_info info = {};
    ptrace(PTRACE_GET_SYSCALL_INFO, child, sizeof info, &info);
    if (info.op == PTRACE_SYSCALL_INFO_ENTRY && !goes_on({child, info.entry.nr, info.entry.args}))
      kill(child, SIGKILL);
    ptrace(PTRACE_SYSCALL, child, nullptr, nullptr);
    waitpid(child, &status, 0);
  }
  return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

class CheckpointKilled : public testing::Test {
 protected:
  void SetUp() override {
    set_threads(1);
    if (!run_traced([] {}, [](const Call&) { return true; })) GTEST_SKIP() << "ptrace is not permitted here";
  }

  // Kills f(run) in front of each of its system calls in turn, each time on a copy of the folder `before`,
  // and looks at what is left. Nothing here depends on the disk: memory is faster.
  void kill_everywhere(const Path& before, const std::function<void(const Path&)>& f,
                       const std::function<void(const Path&)>& look) {
    bool ended = false;
    int at = 0;
    for (; !ended; at++) {
      SCOPED_TRACE(format("killed in front of system call %d", at));
      const TempDir directory(fs::is_directory("/dev/shm") ? "/dev/shm" : fs::temp_directory_path());
      const Path run = directory.path() / "run";
      fs::copy(before, run, fs::copy_options::recursive);
      int calls = 0;
      ended = run_traced([&] { f(run); }, [&](const Call&) { return calls++ < at; });
      ASSERT_NO_THROW(look(run));
      if (HasFailure()) return;
    }
    EXPECT_GT(at, 20);
  }

  const TempDir directory_;
  const Path before_ = directory_.path() / "before";
  Moment old_{1, 1}, next_{2, 2}, last_{3, 3};
};

TEST_F(CheckpointKilled, TheOldOneOrTheNewOneIsThere) {
  old_.save(before_);
  for (const int64_t step : {2, 1}) {
    next_.state.step = step;
    int olds = 0, news = 0;
    kill_everywhere(
        before_, [&](const Path& run) { next_.save(run); },
        [&](const Path& run) {
          const Moment found = load(latest_checkpoint(run).value());
          olds += found == old_;
          news += found == next_;
          EXPECT_TRUE(found == old_ || found == next_);
          // and nothing but the next one is left by the next save
          EXPECT_TRUE(load(last_.save(run)) == last_);
          EXPECT_EQ(names_in(run / "checkpoints"), std::set<std::string>{"step-000003"});
        });
    EXPECT_GT(olds, 20);
    EXPECT_GT(news, 3);
  }
}

TEST_F(CheckpointKilled, RemovingAllLeavesNoHalves) {
  old_.save(before_, 2);
  next_.save(before_, 2);
  kill_everywhere(before_, remove_checkpoints, [&](const Path& run) {
    const auto latest = latest_checkpoint(run);
    EXPECT_TRUE(!latest || load(*latest) == next_);
    last_.save(run);
    EXPECT_EQ(names_in(run), std::set<std::string>{"checkpoints"});
  });
}

// Of one shape, the model is the old or the new one at any instant; of two, it may be none.
TEST_F(CheckpointKilled, APublishedModelIsTheOldOneOrTheNewOne) {
  old_.save(before_, 2);
  next_.save(before_, 2);
  const auto publish = [](const Path& run) { publish_checkpoint(run / "checkpoints/step-000002", run); };
  const auto look = [&](bool may_be_none, const Model& old) {
    return [&, may_be_none](const Path& run) {
      if (fs::exists(run / "config.json") || !may_be_none) {
        const Model found = load_model(run);
        EXPECT_TRUE(same_weights(found, old) || same_weights(found, next_.model));
        EXPECT_TRUE(tokenizer_of(found).size() == 256 || same_weights(found, old));
      }
      publish(run);
      last_.save(run);
      EXPECT_TRUE(same_weights(load_model(run), next_.model));
      std::set<std::string> names = {"checkpoints", "config.json", "model.safetensors", "tokenizer.bytes"};
      if (may_be_none) names.insert("tokenizer.json.replaced");
      EXPECT_EQ(names_in(run), names);
    };
  };
  publish_checkpoint(before_ / "checkpoints/step-000001", before_);
  kill_everywhere(before_, publish, look(false, old_.model));

  Model other;
  other.decoder = tiny_decoder(MixerKind::softmax);
  write_model(other, before_);
  fs::remove(before_ / "tokenizer.bytes");
  std::ofstream(before_ / "tokenizer.json") << R"({"pre_tokenizer": {"type": "ByteLevel"},
    "model": {"vocab": {"a": 0}, "merges": []}})";
  kill_everywhere(before_, publish, look(true, other));
}

// A power cut keeps what was flushed: the files and their names before the folder's own name, and then that.
TEST_F(CheckpointKilled, EveryByteIsFlushedBeforeItsNameIsThere) {
  const Path folder = before_ / "checkpoints", built = folder / ".tmp-step-000002";
  std::set<Path> flushed, made;
  int renamed = 0;
  EXPECT_TRUE(run_traced([&] { next_.save(before_); },
                         [&](const Call& call) {
                           if (call.number == SYS_fsync) flushed.insert(call.file());
                           if (call.number == SYS_write) flushed.erase(call.file());
                           if (call.number == SYS_renameat2) {
                             renamed++;
                             made = {built};
                             for (const auto& entry : fs::directory_iterator(built))
                               made.insert(entry.path());
                             EXPECT_TRUE(
                                 std::includes(flushed.begin(), flushed.end(), made.begin(), made.end()));
                             // the folders that were made for it
                             for (const Path& parent : {before_, before_.parent_path()})
                               EXPECT_TRUE(flushed.contains(parent)) << parent;
                             flushed.erase(folder);
                           }
                           return true;
                         }));
  EXPECT_EQ(renamed, 1);
  EXPECT_GE(made.size(), 6u);
  EXPECT_TRUE(flushed.contains(folder));
}

// A disk that is full after so many bytes of a file.
class FileLimit {
 public:
  explicit FileLimit(rlim_t bytes) {
    getrlimit(RLIMIT_FSIZE, &old_);
    const rlimit limit = {bytes, old_.rlim_max};
    setrlimit(RLIMIT_FSIZE, &limit);
    handler_ = signal(SIGXFSZ, SIG_IGN);
  }
  ~FileLimit() {
    setrlimit(RLIMIT_FSIZE, &old_);
    signal(SIGXFSZ, handler_);
  }

 private:
  rlimit old_;
  void (*handler_)(int);
};

TEST(Checkpoint, AFullDiskLeavesTheLastOne) {
  const TempDir directory;
  Moment old(1, 1), next(2, 2);
  const auto complaint = [&](rlim_t bytes) -> std::string {
    try {
      const FileLimit full(bytes);
      next.save(directory.path());
    } catch (const Error& error) {
      return error.what();
    }
    return "";
  };
  EXPECT_NE(complaint(1000).find("no checkpoint was complete before"), std::string::npos);
  const Path saved = old.save(directory.path());
  // the config, the weights, the moments
  for (const rlim_t bytes : {0, 10, 1000, 60000, 100000}) {
    const std::string text = complaint(bytes);
    EXPECT_NE(text.find("File too large"), std::string::npos) << bytes << text;
    EXPECT_TRUE(text.starts_with((directory.path() / "checkpoints/.tmp-step-000002").string())) << text;
    EXPECT_NE(text.find("the last complete checkpoint is " + saved.string()), std::string::npos) << text;
    EXPECT_TRUE(load(latest_checkpoint(directory.path()).value()) == old);
    EXPECT_EQ(names_in(directory.path() / "checkpoints"), std::set<std::string>{"step-000001"});
  }
  EXPECT_EQ(complaint(10 << 20), "");
  EXPECT_TRUE(load(latest_checkpoint(directory.path()).value()) == next);
}

TEST(Checkpoint, KeepsTheLastOnesAndTheBest) {
  const TempDir directory;
  const Path run = directory.path();
  EXPECT_FALSE(best_checkpoint(run));
  Moment moment(1);
  // of equals the newer is the best; a step without a measurement never is
  const double losses[] = {-1, 3, 2, 2, 2.5, NAN, 2.1};
  const char* best[] = {
      "", "step-000002", "step-000003", "step-000004", "step-000004", "step-000004", "step-000004"};
  for (size_t i = 0; i < std::size(losses); i++) {
    moment.state.step++;
    moment.state.valid_nll = losses[i];
    moment.save(run, 2);
    EXPECT_EQ(best_checkpoint(run).value_or("").filename(), best[i]);
  }
  EXPECT_EQ(names_in(run / "checkpoints"),
            (std::set<std::string>{"step-000004", "step-000006", "step-000007"}));
  moment.state.step++;
  moment.state.valid_nll = 1;
  moment.save(run, 1);
  EXPECT_EQ(names_in(run / "checkpoints"), std::set<std::string>{"step-000008"});
  EXPECT_THROW(moment.save(run, 0), Error);
}

TEST(Checkpoint, TheBestIsOneOfThoseMeasuredOnTheSameText) {
  const TempDir directory;
  const Path run = directory.path();
  Moment moment(1);
  const auto save = [&](double nll) {
    moment.state.step++;
    moment.state.valid_nll = nll;
    moment.save(run, 1);
  };
  save(1);
  EXPECT_EQ(best_checkpoint(run), checkpoint_path(run, 1));
  // a harder text, then a sample of it
  moment.state.held_out = "other";
  for (const double nll : {3, 2, 4}) save(nll);
  EXPECT_EQ(best_checkpoint(run), checkpoint_path(run, 3));
  moment.state.valid_tokens = 300;
  for (const double nll : {5, 6}) save(nll);
  EXPECT_EQ(best_checkpoint(run), checkpoint_path(run, 5));
  EXPECT_EQ(names_in(run / "checkpoints"), (std::set<std::string>{"step-000005", "step-000006"}));
}

// What stands in a run's folder and was not written by it stays, under its name or beside it.
TEST(Checkpoint, TheFilesOfOthersStay) {
  const TempDir directory;
  const Path run = directory.path();
  fs::create_directories(run / "checkpoints");
  const auto write = [&](const char* name) { std::ofstream(run / name) << "mine: " << name; };
  const char* const kept[] = {"model-before-more-tokens.safetensors",
                              "tokenizer_notes.txt",
                              ".tmp-mine",
                              "checkpoints/.tmp-mine",
                              "checkpoints/.tmp-step-mine",
                              "checkpoints/step-of-mine",
                              "checkpoints/step-7",
                              "my-vocab.txt"};
  const char* const moved[] = {"model.safetensors.index.json", "tokenizer.json", "vocab.json", "merges.txt",
                               "tokenizer.model"};
  for (const char* name : kept) write(name);
  // what a killed run leaves half written goes
  for (const char* name :
       {"checkpoints/.tmp-step-000007", "checkpoints/.tmp-step-000007.old", ".tmp-model.safetensors"})
    write(name);
  Moment moment(1, 1);
  for (int round = 1; round <= 2; round++) {
    for (const char* name : moved) write(name);
    const std::vector<Path> aside = publish_checkpoint(moment.save(run), run);
    EXPECT_EQ(aside.size(), std::size(moved));
    EXPECT_TRUE(same_weights(load_model(run), moment.model));
    for (const char* name : kept) EXPECT_EQ(read_file(run / name), std::string("mine: ") + name);
    for (const char* name : moved) {
      EXPECT_FALSE(fs::exists(run / name)) << name;
      const std::string other = name + std::string(round == 1 ? ".replaced" : ".replaced-2");
      EXPECT_EQ(read_file(run / other), std::string("mine: ") + name);
    }
  }
  EXPECT_FALSE(fs::exists(run / ".tmp-model.safetensors"));
  EXPECT_EQ(names_in(run / "checkpoints"),
            (std::set<std::string>{"step-000001", ".tmp-mine", ".tmp-step-mine", "step-of-mine", "step-7"}));
  remove_checkpoints(run);
  EXPECT_FALSE(latest_checkpoint(run));
  for (const char* name : kept) EXPECT_EQ(read_file(run / name), std::string("mine: ") + name);
}

TEST(Checkpoint, SaysWhatMadeIt) {
  const TempDir directory;
  Moment moment(1, 5);
  moment.state.seconds = 1.25;
  moment.state.valid_nll = 2.75;
  moment.state.made_by = "supra uptrain \"a b\" -o caf\u00e9\n--docs '\\n\t\x01'";
  EXPECT_EQ(load(moment.save(directory.path())).state, moment.state);
  // a file name that is no UTF-8 must not make the checkpoint unreadable
  moment.state.made_by = "caf\xe9 x";
  EXPECT_EQ(load(moment.save(directory.path())).state.made_by, "caf\ufffd x");
}

TEST(FileLock, BelongsToOneProcessUntilItDies) {
  const TempDir directory;
  const Path path = directory.path() / ".lock";
  int ready[2];
  ASSERT_EQ(pipe(ready), 0);
  const pid_t child = fork();
  if (child == 0) {
    const FileLock lock(path);
    if (write(ready[1], "x", 1) == 1) pause();
    _exit(1);
  }
  char x;
  ASSERT_EQ(read(ready[0], &x, 1), 1);
  try {
    const FileLock lock(path);
    ADD_FAILURE() << "two processes hold one lock";
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find(format("process %d is writing", child)), std::string::npos)
        << error.what();
  }
  kill(child, SIGKILL);
  waitpid(child, nullptr, 0);
  {
    const FileLock lock(path);
    EXPECT_EQ(read_file(path), std::to_string(getpid()));
    EXPECT_THROW(FileLock{path}, Error);
  }
  EXPECT_FALSE(fs::exists(path));
}

}  // namespace
}  // namespace supra
