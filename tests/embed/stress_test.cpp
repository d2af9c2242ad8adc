#include <unistd.h>

#include <atomic>
#include <fstream>
#include <thread>

#include "tests/embed/host.h"

// Ten thousand sessions of a hundred steps each, on one engine that threads share. Under `make tsan` this is
// the proof that nothing is raced for; SUPRA_TEST_SESSIONS says how many where that takes too long, or not
// long enough.

namespace supra {
namespace {

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr bool kSanitized = true;
#else
constexpr bool kSanitized = false;
#endif

constexpr size_t kThreads = 4, kBatch = 50, kSteps = 100;

size_t rounds() {
  const char* given = std::getenv("SUPRA_TEST_SESSIONS");
  const size_t sessions = given ? std::strtoul(given, nullptr, 10) : kSanitized ? 400 : 2000;
  return std::max<size_t>(1, sessions / (kThreads * kBatch));
}

size_t resident() {
  size_t all = 0, pages = 0;
  std::ifstream("/proc/self/statm") >> all >> pages;
  return pages * static_cast<size_t>(sysconf(_SC_PAGESIZE));
}

// Some sessions from their first id to their last, by every function of supra.h. A call that is refused its
// memory is made again: nothing has happened, so the states at the end are the same ones.
class Life {
 public:
  Life(const EnginePtr& engine, uint64_t seed) : engine_(engine), random_(seed), sampling_seed_(seed) {}

  std::string states() {
    std::vector<SessionPtr> sessions;
    std::vector<supra_session*> list;
    for (size_t b = 0; b < kBatch; b++) {
      sessions.push_back(made([&] {
        return b % 3 == 2 ? supra_clone(sessions[b - 1].get(), &error_) : supra_start(engine_.get(), &error_);
      }));
      list.push_back(sessions.back().get());
    }
    std::vector<int32_t> ids(kBatch);
    for (size_t step = 0; step < kSteps; step++) {
      for (int32_t& id : ids) id = static_cast<int32_t>(random_.below(256));
      if (step > 0) {
        insist(
            [&] { return supra_sample(list[step % kBatch], &kSampling, &sampling_seed_, &ids[0], &error_); });
      }
      if (step % 20 != 19) {
        insist([&] { return supra_step(list.data(), ids.data(), kBatch, &error_); });
        continue;
      }
      for (size_t b = 0; b < kBatch; b++) {
        const char letter = static_cast<char>(ids[b]);
        insist([&] {
          return b % 2 == 0 ? supra_feed(list[b], &ids[b], 1, &error_)
                            : supra_feed_text(list[b], &letter, 1, 0, &error_);
        });
      }
      move(list[step % 7], list[10 + step % 11]);
    }
    std::string all;
    for (const SessionPtr& session : sessions) all += saved(engine_, session);
    return all;
  }

  size_t refused() const { return refused_; }

 private:
  static constexpr supra_sampling kSampling = sampling_of(0.9f, 40, 0.95f, 0.01f);

  // One that goes where another is by way of a saved state, and that one on to where the first was.
  void move(supra_session* one, supra_session* other) {
    const SessionPtr kept = made([&] { return supra_clone(one, &error_); });
    std::string state(supra_state_bytes(engine_.get()), '\0');
    insist([&] { return supra_save(other, state.data(), state.size(), nullptr, &error_); });
    insist([&] { return supra_reset(one, &error_); });
    insist([&] { return supra_load(one, state.data(), state.size(), &error_); });
    insist([&] { return supra_copy(other, kept.get(), &error_); });
    char text[16];
    insist([&] { return supra_text(one, 0xe4, text, sizeof text, nullptr, &error_); });
  }

  template <class F>
  void insist(F f) {
    int code;
    while ((code = f()) == SUPRA_NO_MEMORY) refused_++;
    EXPECT_EQ(code, SUPRA_OK) << error_.message;
  }
  template <class F>
  SessionPtr made(F f) {
    SessionPtr session;
    insist([&] {
      session.reset(f());
      return error_.code;
    });
    return session;
  }

  const EnginePtr& engine_;
  Philox random_;
  uint64_t sampling_seed_;
  supra_error error_ = {};
  size_t refused_ = 0;
};

std::vector<std::string> lives_of_one_thread() {
  const TempDir dir;
  write_tiny_model(dir.path() / "model.supra");
  const EnginePtr engine(supra_open((dir.path() / "model.supra").c_str(), nullptr, nullptr));
  std::vector<std::string> states;
  for (uint64_t seed = 0; seed < 3; seed++) states.push_back(Life(engine, seed).states());
  return states;
}

// Several threads that all live the same lives, with an engine of these options: each must end as one alone
// does. Without a host memory is malloc's: a host's lock would put in order what may be a race.
void live(int engine_threads, Host* host) {
  const std::vector<std::string> expected = lives_of_one_thread();
  const TempDir dir;
  write_tiny_model(dir.path() / "model.supra");
  supra_error error;
  supra_options options = options_of(engine_threads);
  if (host) options = *host->options();
  EnginePtr engine(supra_open((dir.path() / "model.supra").c_str(), &options, &error));
  ASSERT_TRUE(engine) << error.message;
  if (host) host->refuse_some(1000);
  std::atomic<size_t> early = 0, refused = 0;
  std::vector<std::thread> threads;
  for (size_t t = 0; t < kThreads; t++) {
    threads.emplace_back([&, t] {
      for (size_t round = 0; round < rounds(); round++) {
        Life life(engine, round % expected.size());
        EXPECT_TRUE(life.states() == expected[round % expected.size()]) << "thread " << t;
        refused += life.refused();
        if (t == 0 && round == rounds() / 5) early = resident();
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(refused > 0, host != nullptr);
  EXPECT_TRUE(kSanitized || resident() <= early + (2 << 20));
  std::printf("%zu sessions, %zu calls refused, %.1f MB resident after a fifth, %.1f MB at the end\n",
              rounds() * kThreads * kBatch, refused.load(), early / 1e6, resident() / 1e6);
  if (!host) return;
  host->refuse_some(0);
  engine.reset();
  EXPECT_EQ(host->blocks(), 0u);
}

TEST(EmbedStress, TenThousandSessionsShareAnEngine) { live(1, nullptr); }

TEST(EmbedStress, SessionsShareAnEnginesThreads) { live(2, nullptr); }

TEST(EmbedStress, TenThousandSessionsSurviveAFullMemory) {
  Host host;
  live(1, &host);
}

TEST(EmbedStress, ThreadsSurviveAFullMemory) {
  Host host(2);
  live(2, &host);
}

}  // namespace
}  // namespace supra
