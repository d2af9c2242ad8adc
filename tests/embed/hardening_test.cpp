#include <pthread.h>
#include <signal.h>
#include <sys/stat.h>

#include <atomic>
#include <chrono>
#include <functional>
#include <thread>

#include "tests/supra/embed/embed_model.h"

// Mistakes and accidents of a host: senseless arguments, signals in the middle of a call, files that change.

namespace supra {
namespace {

class EmbedHardeningTest : public testing::Test {
 protected:
  EmbedHardeningTest() {
    write_tiny_model(file_);
    engine_ = open(file_);
  }
  EnginePtr open(const std::string& path, int threads = 1) {
    const supra_options options = options_of(threads);
    EnginePtr engine(supra_open(path.c_str(), &options, &error_));
    EXPECT_TRUE(engine) << error_.message;
    return engine;
  }
  std::string state_after(const EnginePtr& engine, size_t ids) {
    const SessionPtr session = start(engine);
    EXPECT_EQ(supra_feed(session.get(), std::vector<int32_t>(ids, 7).data(), ids, &error_), SUPRA_OK)
        << error_.message;
    return saved(engine, session);
  }

  TempDir dir_;
  const Path file_ = dir_.path() / "model.supra";
  supra_error error_ = {};
  EnginePtr engine_;
};

// The code of a function that gives a pointer.
template <class T>
int code_of(T* made, const supra_error* error) {
  return made ? SUPRA_OK : error ? error->code : SUPRA_BAD_ARGUMENT;
}

int id_code(int32_t id, const supra_error* error) {
  return id >= 0 ? SUPRA_OK : error ? error->code : SUPRA_BAD_ARGUMENT;
}

// Calls with senseless arguments. Each returns SUPRA_BAD_ARGUMENT, and the message begins with the function's name.
class EmbedArgumentsTest : public EmbedHardeningTest {
 protected:
  EmbedArgumentsTest() {
    EXPECT_EQ(supra_feed(fed, ids, 2, &error_), SUPRA_OK);
    before_ = saved(engine_, read_);
  }
  ~EmbedArgumentsTest() override {
    EXPECT_EQ(saved(engine_, read_), before_);
    EXPECT_EQ(supra_position(s), 0);
    EXPECT_EQ(random, 1u);
  }
  void refuse(const std::string& function, const std::function<int(supra_error*)>& call) {
    error_ = {};
    EXPECT_EQ(call(&error_), SUPRA_BAD_ARGUMENT) << function << ": " << error_.message;
    EXPECT_EQ(error_.code, SUPRA_BAD_ARGUMENT) << function;
    EXPECT_EQ(std::string(error_.message).find(function + ": "), 0u) << error_.message;
    EXPECT_EQ(call(nullptr), SUPRA_BAD_ARGUMENT) << function;
  }

  const SessionPtr given_ = start(engine_), read_ = start(engine_);
  std::string before_;
  supra_session *const s = given_.get(), *const fed = read_.get();
  const supra_engine* const e = engine_.get();
  const int32_t ids[2] = {1, 2}, beyond = 256, below = -1, far_below = INT32_MIN;
  const supra_sampling good = sampling_of(1);
  alignas(64) char model[128] = {};
  std::string room = std::string(1 << 16, 'x');
  int32_t id = 0;
  uint64_t random = 1;
};

TEST_F(EmbedArgumentsTest, OfOpeningAreRefused) {
  refuse("supra_open", [&](auto* error) { return code_of(supra_open(nullptr, nullptr, error), error); });
  refuse("supra_open_memory", [&](auto* error) { return code_of(supra_open_memory(nullptr, 64, nullptr, error), error); });
  refuse("supra_open_memory", [&](auto* error) { return code_of(supra_open_memory(model + 1, 64, nullptr, error), error); });
  supra_options options[] = {options_of(), options_of(), options_of(), options_of(), options_of()};
  options[0].size = 0;
  options[1].size = UINT32_MAX;
  options[2].threads = -1;
  options[3].threads = INT32_MAX;
  options[4].release = [](void*, void*, size_t) {};
  for (const supra_options& o : options) {
    refuse("supra_open", [&](auto* error) { return code_of(supra_open(file_.c_str(), &o, error), error); });
    refuse("supra_open_memory", [&](auto* error) { return code_of(supra_open_memory(model, sizeof model, &o, error), error); });
  }
}

TEST_F(EmbedArgumentsTest, OfTextsAreRefused) {
  const supra_message hello = {"user", "a", 1}, nobody = {nullptr, "a", 1}, silent = {"user", nullptr, 1};
  refuse("supra_encode", [&](auto* error) { return supra_encode(nullptr, "a", 1, 0, &id, 1, nullptr, error); });
  refuse("supra_encode", [&](auto* error) { return supra_encode(e, nullptr, 1, 0, &id, 1, nullptr, error); });
  refuse("supra_encode", [&](auto* error) { return supra_encode(e, "a", 1, 0, nullptr, 1, nullptr, error); });
  refuse("supra_encode", [&](auto* error) { return supra_encode(e, "a", 1, 8, &id, 1, nullptr, error); });
  refuse("supra_special", [&](auto* error) { return id_code(supra_special(nullptr, "a", 1, error), error); });
  refuse("supra_special", [&](auto* error) { return id_code(supra_special(e, nullptr, 1, error), error); });
  refuse("supra_special", [&](auto* error) { return id_code(supra_special(e, "a", 1, error), error); });
  refuse("supra_render_chat", [&](auto* error) { return supra_render_chat(nullptr, &hello, 1, 0, nullptr, 0, nullptr, error); });
  refuse("supra_render_chat", [&](auto* error) { return supra_render_chat(e, nullptr, 1, 0, nullptr, 0, nullptr, error); });
  refuse("supra_render_chat", [&](auto* error) { return supra_render_chat(e, &hello, 1, 0, nullptr, 9, nullptr, error); });
  refuse("supra_render_chat", [&](auto* error) { return supra_render_chat(e, &hello, 1, 4, nullptr, 0, nullptr, error); });
  refuse("supra_render_chat", [&](auto* error) { return supra_render_chat(e, &nobody, 1, 0, nullptr, 0, nullptr, error); });
  refuse("supra_render_chat", [&](auto* error) { return supra_render_chat(e, &silent, 1, 0, nullptr, 0, nullptr, error); });
}

TEST_F(EmbedArgumentsTest, OfSessionsAreRefused) {
  const std::string& state = before_;
  refuse("supra_start", [&](auto* error) { return code_of(supra_start(nullptr, error), error); });
  refuse("supra_reset", [&](auto* error) { return supra_reset(nullptr, error); });
  refuse("supra_feed", [&](auto* error) { return supra_feed(nullptr, ids, 1, error); });
  refuse("supra_feed", [&](auto* error) { return supra_feed(s, nullptr, 1, error); });
  refuse("supra_feed", [&](auto* error) { return supra_feed(s, &beyond, 1, error); });
  refuse("supra_feed", [&](auto* error) { return supra_feed(s, &far_below, 1, error); });
  refuse("supra_feed_text", [&](auto* error) { return supra_feed_text(nullptr, "a", 1, 0, error); });
  refuse("supra_feed_text", [&](auto* error) { return supra_feed_text(s, nullptr, 1, 0, error); });
  refuse("supra_feed_text", [&](auto* error) { return supra_feed_text(s, "a", 1, 8, error); });
  refuse("supra_step", [&](auto* error) { return supra_step(nullptr, ids, 1, error); });
  refuse("supra_step", [&](auto* error) { return supra_step(&s, nullptr, 1, error); });
  refuse("supra_step", [&](auto* error) { return supra_step(&s, &below, 1, error); });
  refuse("supra_text", [&](auto* error) { return supra_text(nullptr, 1, room.data(), 9, nullptr, error); });
  refuse("supra_text", [&](auto* error) { return supra_text(s, 1, nullptr, 9, nullptr, error); });
  refuse("supra_text", [&](auto* error) { return supra_text(s, -2, room.data(), 9, nullptr, error); });
  refuse("supra_text", [&](auto* error) { return supra_text(s, 256, room.data(), 9, nullptr, error); });
  refuse("supra_clone", [&](auto* error) { return code_of(supra_clone(nullptr, error), error); });
  refuse("supra_copy", [&](auto* error) { return supra_copy(nullptr, s, error); });
  refuse("supra_copy", [&](auto* error) { return supra_copy(s, nullptr, error); });
  refuse("supra_save", [&](auto* error) { return supra_save(nullptr, room.data(), room.size(), nullptr, error); });
  refuse("supra_save", [&](auto* error) { return supra_save(s, nullptr, room.size(), nullptr, error); });
  refuse("supra_load", [&](auto* error) { return supra_load(nullptr, state.data(), state.size(), error); });
  refuse("supra_load", [&](auto* error) { return supra_load(s, nullptr, state.size(), error); });
  supra_session* const lists[][2] = {{nullptr, s}, {s, nullptr}, {s, s}};
  for (const auto& list : lists) refuse("supra_step", [&](auto* error) { return supra_step(list, ids, 2, error); });
}

TEST_F(EmbedArgumentsTest, OfSamplingAreRefused) {
  refuse("supra_sample", [&](auto* error) { return supra_sample(nullptr, &good, &random, &id, error); });
  refuse("supra_sample", [&](auto* error) { return supra_sample(s, &good, &random, &id, error); });
  refuse("supra_sample", [&](auto* error) { return supra_sample(fed, nullptr, &random, &id, error); });
  refuse("supra_sample", [&](auto* error) { return supra_sample(fed, &good, nullptr, &id, error); });
  refuse("supra_sample", [&](auto* error) { return supra_sample(fed, &good, &random, nullptr, error); });
  const float nan = NAN;
  std::vector<supra_sampling> bad = {
      sampling_of(-1),           sampling_of(nan),        sampling_of(INFINITY),     sampling_of(1, -1),
      sampling_of(1, 0, -1),     sampling_of(1, 0, 2),    sampling_of(1, 0, nan),    sampling_of(1, 0, 1, -1),
      sampling_of(1, 0, 1, 1.5), sampling_of(1, 0, 1, nan)};
  for (const float penalty : {-1.0f, nan, INFINITY}) {
    bad.push_back(good);
    bad.back().repeat_penalty = penalty;
  }
  for (const int32_t* recent : {static_cast<const int32_t*>(nullptr), &beyond, &below}) {
    bad.push_back(good);
    bad.back().recent = recent;
    bad.back().recent_count = 1;
  }
  for (const uint32_t size : {0u, 1u, static_cast<uint32_t>(sizeof good) - 1, UINT32_MAX}) {
    bad.push_back(good);
    bad.back().size = size;
  }
  for (const supra_sampling& sampling : bad)
    refuse("supra_sample", [&](auto* error) { return supra_sample(fed, &sampling, &random, &id, error); });
}

TEST_F(EmbedArgumentsTest, OtherErrorsNameTheFunctionToo) {
  EXPECT_FALSE(supra_open_memory(model, sizeof model, nullptr, &error_));
  EXPECT_EQ(error_.code, SUPRA_BAD_MODEL);
  EXPECT_EQ(std::string(error_.message).find("supra_open_memory: "), 0u) << error_.message;
  EXPECT_EQ(supra_load(s, model, sizeof model, &error_), SUPRA_BAD_STATE);
  EXPECT_EQ(std::string(error_.message).find("supra_load: "), 0u) << error_.message;
}

TEST_F(EmbedArgumentsTest, NullIsAllowedWithoutAnError) {
  EXPECT_EQ(supra_vocabulary(nullptr), 0);
  EXPECT_EQ(supra_bos(nullptr), -1);
  EXPECT_EQ(supra_eos(nullptr), -1);
  EXPECT_EQ(supra_is_end(nullptr, 1), 0);
  EXPECT_STREQ(supra_chat_template(nullptr), "");
  EXPECT_EQ(supra_state_bytes(nullptr), 0u);
  EXPECT_EQ(supra_cache_bytes(nullptr), 0u);
  EXPECT_EQ(supra_logits(nullptr), nullptr);
  EXPECT_EQ(supra_position(nullptr), 0);
  supra_end(nullptr);
  supra_close(nullptr);
}

// Interrupts the thread that made it, with two signals every millisecond.
class Interruptions {
 public:
  explicit Interruptions(int flags) {
    struct sigaction action = {};
    action.sa_flags = flags;
    action.sa_handler = [](int) { seen++; };
    for (size_t i = 0; i < 2; i++) sigaction(kSignals[i], &action, &before_[i]);
    seen = 0;
    sender_ = std::thread([this, target = pthread_self()] {
      while (!stop_) {
        for (const int signal : kSignals) pthread_kill(target, signal);
        std::this_thread::sleep_for(std::chrono::milliseconds(1));
      }
    });
  }
  ~Interruptions() {
    stop_ = true;
    sender_.join();
    for (size_t i = 0; i < 2; i++) sigaction(kSignals[i], &before_[i], nullptr);
  }

  static inline std::atomic<int> seen = 0;

 private:
  static constexpr int kSignals[] = {SIGALRM, SIGUSR1};
  struct sigaction before_[2];
  std::atomic<bool> stop_ = false;
  std::thread sender_;
};

TEST_F(EmbedHardeningTest, SignalsChangeNothing) {
  save_model(byte_model(MixerKind::supra), dir_.path() / "folder");
  const std::string paths[] = {file_, dir_.path() / "folder"};
  const std::string expected = state_after(engine_, 3000);
  for (const int flags : {0, SA_RESTART}) {
    for (const int threads : {1, 2}) {
      const Interruptions interruptions(flags);
      for (int i = 0; i < 100 && (i < 4 || interruptions.seen < 100); i++) {
        const EnginePtr engine = open(paths[i % 2], threads);
        ASSERT_EQ(state_after(engine, 3000), expected);
      }
      EXPECT_GE(interruptions.seen, 100);
    }
  }
}

TEST_F(EmbedHardeningTest, AFileThatIsReplacedStaysOpen) {
  const std::string expected = state_after(engine_, 20);
  write_tiny_model(dir_.path() / "new", 6);
  std::filesystem::rename(dir_.path() / "new", file_);
  EXPECT_EQ(state_after(engine_, 20), expected);
  EXPECT_NE(state_after(open(file_), 20), expected);
  std::filesystem::remove(file_);
  EXPECT_EQ(state_after(engine_, 20), expected);
}

// Cut before it is opened, it is refused. Cut afterwards, it is what supra.h forbids.
TEST_F(EmbedHardeningTest, AFileThatIsCut) {
  const Path cut = dir_.path() / "cut.supra";
  std::filesystem::copy_file(file_, cut);
  for (size_t size = std::filesystem::file_size(file_); size-- > 0; size -= std::min<size_t>(size, 100)) {
    std::filesystem::resize_file(cut, size);
    EXPECT_FALSE(supra_open(cut.c_str(), nullptr, &error_)) << size;
    EXPECT_EQ(error_.code, SUPRA_BAD_MODEL) << size << ": " << error_.message;
  }
  const SessionPtr session = start(engine_);
  EXPECT_EXIT(
      {
        signal(SIGBUS, SIG_DFL);
        std::filesystem::resize_file(file_, 0);
        const int32_t id = 1;
        supra_feed(session.get(), &id, 1, nullptr);
      },
      testing::KilledBySignal(SIGBUS), "");
  // no file at all, but a pipe that nobody writes
  const Path pipe = dir_.path() / "pipe";
  ASSERT_EQ(mkfifo(pipe.c_str(), 0600), 0);
  EXPECT_FALSE(supra_open(pipe.c_str(), nullptr, &error_));
  EXPECT_EQ(error_.code, SUPRA_BAD_MODEL);
}

}  // namespace
}  // namespace supra
