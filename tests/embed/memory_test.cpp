#include <malloc.h>
#include <sys/mman.h>

#include "tests/embed/host.h"

// The library as hosts link it: all memory is the engine's, and any of it may be refused.

namespace supra {
namespace {

class EmbedMemoryTest : public testing::Test {
 protected:
  EmbedMemoryTest() { write_tiny_model(file_); }
  ~EmbedMemoryTest() override { EXPECT_EQ(host_.blocks(), 0u); }

  EnginePtr open(Host& host) {
    EnginePtr engine(supra_open(file_.c_str(), host.options(), &error_));
    EXPECT_TRUE(engine) << error_.message;
    return engine;
  }

  // Refuses the first request that f makes, then the second, ..., alone and with all that follow, until none
  // is left: each time f says so, and the session is as it was.
  template <class F>
  void expect_refusals_survived(const EnginePtr& engine, const SessionPtr& session, F f) {
    const std::string before = saved(engine, session);
    for (const size_t times : {size_t{1}, size_t{1} << 40}) {
      size_t nth = 0;
      do {
        host_.refuse(++nth, times);
        const int code = f();
        const bool refused = host_.refused();
        host_.refuse(0);
        if (!refused) {
          EXPECT_EQ(code, SUPRA_OK) << error_.message;
          EXPECT_EQ(supra_load(session.get(), before.data(), before.size(), &error_), SUPRA_OK);
          break;
        }
        EXPECT_EQ(code, SUPRA_NO_MEMORY) << "request " << nth << ": " << error_.message;
        EXPECT_NE(std::string(error_.message).find("memory"), std::string::npos) << error_.message;
        EXPECT_EQ(saved(engine, session), before) << "request " << nth;
      } while (nth < 100000 && !HasFailure());
      requests_ += nth;
    }
  }

  TempDir dir_;
  const Path file_ = dir_.path() / "model.supra";
  Host host_;
  supra_error error_ = {};
  size_t requests_ = 0;
};

TEST_F(EmbedMemoryTest, AllThatWasTakenIsGivenBack) {
  for (const int threads : {1, 2, 3}) {
    Host host(threads);
    {
      const EnginePtr engine = open(host);
      const SessionPtr session = start(engine);
      const std::string text(300, 'x');
      EXPECT_EQ(supra_feed_text(session.get(), text.data(), text.size(), 0, &error_), SUPRA_OK)
          << error_.message;
      const SessionPtr clone(supra_clone(session.get(), nullptr));
      EXPECT_GT(host.blocks(), 10u);
    }
    EXPECT_EQ(host.blocks(), 0u) << threads << " threads";
    EXPECT_EQ(host.bytes(), 0u);
  }
}

TEST_F(EmbedMemoryTest, EveryRequestOfOpenMayBeRefused) {
  save_model(byte_model(MixerKind::supra), dir_.path() / "folder");
  const std::string text = read_file(file_);
  const Tensor bytes = Tensor::empty({static_cast<int64_t>(text.size())}, Dtype::u8);
  memcpy(bytes.raw(), text.data(), text.size());
  const std::string folder = dir_.path() / "folder";
  using Way = std::function<supra_engine*(const supra_options*)>;
  const Way ways[] = {
      [&](const supra_options* options) { return supra_open(file_.c_str(), options, &error_); },
      [&](const supra_options* options) { return supra_open(folder.c_str(), options, &error_); },
      [&](const supra_options* options) {
        return supra_open_memory(bytes.raw(), text.size(), options, &error_);
      },
  };
  // threads, how many requests in a row are refused, how far it is to the next try: each one once will do
  const std::tuple<int, size_t, size_t> settings[] = {{1, 1, 1}, {1, size_t{1} << 40, 7}, {2, 1, 7}};
  for (const auto& [threads, times, step] : settings) {
    Host host(threads);
    for (const Way& way : ways) {
      for (size_t nth = 1;; nth += step) {
        host.refuse(nth, times);
        const EnginePtr engine(way(host.options()));
        const bool refused = host.refused();
        host.refuse(0);
        if (!refused) {
          EXPECT_TRUE(engine) << error_.message;
          EXPECT_GT(nth, 100u);
          break;
        }
        ASSERT_FALSE(engine) << "request " << nth;
        ASSERT_EQ(error_.code, SUPRA_NO_MEMORY) << "request " << nth << ": " << error_.message;
        ASSERT_EQ(host.blocks(), 0u) << "request " << nth;
      }
    }
  }
}

TEST_F(EmbedMemoryTest, EveryRequestOfACallMayBeRefused) {
  const EnginePtr engine = open(host_);
  const SessionPtr session = start(engine), other = start(engine);
  const int32_t ids[] = {1, 2, 3, 4, 5}, id = 7;
  expect_refusals_survived(engine, session, [&] { return supra_feed(session.get(), ids, 5, &error_); });
  expect_refusals_survived(engine, session,
                           [&] { return supra_feed_text(session.get(), "a b", 3, 0, &error_); });
  supra_session* both[] = {session.get(), other.get()};
  expect_refusals_survived(engine, session, [&] { return supra_step(both, ids, 2, &error_); });
  EXPECT_EQ(supra_feed(session.get(), ids, 5, &error_), SUPRA_OK);
  expect_refusals_survived(engine, session, [&] { return supra_step(both, &id, 1, &error_); });
  expect_refusals_survived(engine, session, [&] {
    const SessionPtr clone(supra_clone(session.get(), &error_));
    return error_.code;
  });
  expect_refusals_survived(engine, session, [&] {
    const SessionPtr fresh(supra_start(engine.get(), &error_));
    return error_.code;
  });
  const std::string state = saved(engine, session);
  expect_refusals_survived(engine, session, [&] {
    std::string again(state.size(), '\0');
    return supra_save(session.get(), again.data(), again.size(), nullptr, &error_);
  });
  // a session without logits has to make room for them
  EXPECT_EQ(supra_reset(other.get(), &error_), SUPRA_OK);
  expect_refusals_survived(engine, other, [&] {
    const int code = supra_load(other.get(), state.data(), state.size(), &error_);
    if (code == SUPRA_OK) supra_reset(other.get(), nullptr);
    return code;
  });
  expect_refusals_survived(engine, other, [&] {
    const int code = supra_copy(other.get(), session.get(), &error_);
    if (code == SUPRA_OK) supra_reset(other.get(), nullptr);
    return code;
  });
  const supra_sampling sampling = sampling_of(0.8f, 10, 0.9f);
  expect_refusals_survived(engine, session, [&] {
    uint64_t random = 1;
    int32_t chosen;
    const int code = supra_sample(session.get(), &sampling, &random, &chosen, &error_);
    EXPECT_EQ(random == 1, code != SUPRA_OK);
    return code;
  });
  expect_refusals_survived(engine, session, [&] {
    char room[64];
    return supra_text(session.get(), 'x', room, sizeof room, nullptr, &error_);
  });
  expect_refusals_survived(engine, session, [&] {
    int32_t room[8];
    return supra_encode(engine.get(), "abc", 3, SUPRA_BOS, room, 8, nullptr, &error_);
  });
  EXPECT_GT(requests_, 500u);
}

// A step writes to the rings in place, and the far state is told of what it replaces: neither is to be seen after it failed.
TEST_F(EmbedMemoryTest, EveryRequestOfAStepInRingsMayBeRefused) {
  for (const HostModel& model : host_models()) {
    write_tiny_model(file_, 5, Dtype::f32, {{"tok.bytes", ""}}, 256, model.config);
    const EnginePtr engine = open(host_);
    const SessionPtr session = start(engine), undisturbed = start(engine);
    const std::vector<int32_t> ids(30, 3);
    const int32_t failed = 7, next = 9;
    // with slots that nothing was written to, and long after that
    for (int i = 0; i < 2; i++) {
      expect_refusals_survived(engine, session, [&] { return supra_feed(session.get(), &failed, 1, &error_); });
      expect_refusals_survived(engine, session, [&] { return supra_feed(session.get(), ids.data(), 5, &error_); });
      for (const size_t nth : {5, 20, 40, 60}) {
        host_.refuse(nth);
        EXPECT_EQ(supra_feed(session.get(), &failed, 1, &error_), SUPRA_NO_MEMORY);
      }
      host_.refuse(0);
      for (const SessionPtr* one : {&session, &undisturbed}) {
        EXPECT_EQ(supra_feed(one->get(), &next, 1, &error_), SUPRA_OK);
        EXPECT_EQ(supra_feed(one->get(), ids.data(), ids.size(), &error_), SUPRA_OK);
      }
      EXPECT_EQ(saved(engine, session), saved(engine, undisturbed)) << model.name;
    }
  }
}

TEST_F(EmbedMemoryTest, ALongTextTakesNoMemory) {
  for (const HostModel& model : host_models()) {
    write_tiny_model(file_, 5, Dtype::f32, {{"tok.bytes", ""}}, 256, model.config);
    Host host;
    const EnginePtr engine = open(host);
    const SessionPtr session = start(engine);
    size_t after = 0, most = 0;
    for (int32_t i = 0; i < 5000; i++) {
      const int32_t id = i * 7 % 256;
      ASSERT_EQ(supra_feed(session.get(), &id, 1, &error_), SUPRA_OK) << error_.message;
      // beyond the windows, and the context
      if (i == 100) after = host.bytes(), most = host.most_bytes();
    }
    EXPECT_EQ(host.bytes(), after) << model.name;
    EXPECT_EQ(host.most_bytes(), most) << model.name;
  }
}

// A step takes less memory than a second ring would.
TEST_F(EmbedMemoryTest, AStepCopiesNoRing) {
  Config config = tiny_config(MixerKind::window);
  config.windows = {40000, 40000};
  write_tiny_model(file_, 5, Dtype::f32, {{"tok.bytes", ""}}, 256, config);
  const EnginePtr engine = open(host_);
  const SessionPtr session = start(engine);
  const size_t before = host_.bytes(), most = host_.most_bytes();
  for (int32_t id = 0; id < 100; id++) ASSERT_EQ(supra_feed(session.get(), &id, 1, &error_), SUPRA_OK) << error_.message;
  EXPECT_LE(host_.most_bytes(), std::max(most, before + supra_state_bytes(engine.get()) / 2));
}

TEST_F(EmbedMemoryTest, RefusalsInThreadsAreSurvived) {
  Host host(2);
  const EnginePtr engine = open(host);
  const SessionPtr session = start(engine);
  const std::vector<int32_t> ids(700, 3);
  const std::string before = saved(engine, session);
  for (size_t nth = 1; nth < 2000; nth += 7) {
    host.refuse(nth);
    const int code = supra_feed(session.get(), ids.data(), ids.size(), &error_);
    const bool refused = host.refused();
    host.refuse(0);
    EXPECT_EQ(code, refused ? SUPRA_NO_MEMORY : SUPRA_OK) << error_.message;
    if (!refused) break;
    EXPECT_EQ(saved(engine, session), before);
  }
}

// Memory that no hook knows of would come from malloc.
TEST_F(EmbedMemoryTest, NothingIsTakenElsewhere) {
  constexpr size_t kArena = 64 << 20;
  struct Arena {
    char* begin;
    size_t used = 0;
  } arena = {
      static_cast<char*>(mmap(nullptr, kArena, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0))};
  supra_options options = options_of();
  options.user = &arena;
  options.allocate = [](void* user, size_t bytes, size_t alignment) -> void* {
    Arena& arena = *static_cast<Arena*>(user);
    arena.used = (arena.used + alignment - 1) / alignment * alignment;
    if (bytes > kArena - arena.used) return nullptr;
    arena.used += bytes;
    return arena.begin + arena.used - bytes;
  };
  options.release = [](void*, void*, size_t) {};
  const auto live = [&](const std::string& path) {
    supra_engine* const engine = supra_open(path.c_str(), &options, nullptr);
    supra_session* const session = supra_start(engine, nullptr);
    int code = SUPRA_OK;
    for (int i = 0; i < 20 && code == SUPRA_OK; i++) code = supra_feed_text(session, "Once upon", 9, SUPRA_SPECIAL, nullptr);
    supra_end(session);
    supra_close(engine);
    EXPECT_EQ(code, SUPRA_OK);
  };
  const std::string path = file_;
  const auto in_use = [] {
    const struct mallinfo2 info = mallinfo2();
    return info.uordblks + info.hblkhd;
  };
  const size_t before = in_use();
  live(path);
  EXPECT_EQ(in_use(), before);
  EXPECT_GT(arena.used, 100000u);
  munmap(arena.begin, kArena);
}

TEST_F(EmbedMemoryTest, NoThreadIsStartedUnasked) {
  const auto threads = [] {
    const std::filesystem::directory_iterator tasks("/proc/self/task");
    return std::distance(begin(tasks), end(tasks));
  };
  const auto before = threads();
  for (const int asked : {0, 1, 3}) {
    Host host(asked);
    const EnginePtr engine = open(host);
    const SessionPtr session = start(engine);
    const std::vector<int32_t> ids(600, 1);
    EXPECT_EQ(supra_feed(session.get(), ids.data(), ids.size(), &error_), SUPRA_OK);
    EXPECT_EQ(threads() - before, std::max(0, asked - 1));
  }
  EXPECT_EQ(threads(), before);
}

// A model of stories260K's shape: a state of 10 kB.
static Path write_stories(const Path& folder) {
  Config config;
  config.vocab = 512;
  config.width = 64;
  config.layers = 5;
  config.heads = 8;
  config.kv_heads = 4;
  config.head_dim = config.key_dim = config.value_dim = 8;
  config.mlp_width = 172;
  config.context = 512;
  config.tied = true;
  config.mixers.assign(5, MixerKind::supra);
  Model model;
  model.decoder = make_decoder(config);
  model.decoder->init_weights(1);
  save_model(model, folder);
  return folder;
}

// Beside the memory of tensors, one block each, next to nothing.
TEST_F(EmbedMemoryTest, ATokenTakesFewBlocks) {
  const EnginePtr engine(supra_open(write_stories(dir_.path() / "stories").c_str(), host_.options(), &error_));
  ASSERT_TRUE(engine) << error_.message;
  const SessionPtr session = start(engine);
  supra_session* const one = session.get();
  for (int32_t id = 1; id < 10; id++) {
    host_.refuse(0);
    ASSERT_EQ(supra_step(&one, &id, 1, &error_), SUPRA_OK) << error_.message;
  }
  EXPECT_LE(host_.requests(), 200u);
}

TEST_F(EmbedMemoryTest, AThousandSessionsAreAThousandStates) {
  const EnginePtr engine(supra_open(write_stories(dir_.path() / "stories").c_str(), host_.options(), &error_));
  ASSERT_TRUE(engine) << error_.message;
  const double floats = 5 * 8 * 8 * 8, logits = 512;
  double fresh = 0, read = 0;
  // the second time the engine has its workspace
  for (int time = 0; time < 2; time++) {
    const size_t without = host_.bytes();
    std::vector<SessionPtr> sessions;
    for (int i = 0; i < 1000; i++) sessions.push_back(start(engine));
    fresh = static_cast<double>(host_.bytes() - without) / 1000;
    std::vector<supra_session*> list;
    for (const SessionPtr& session : sessions) list.push_back(session.get());
    ASSERT_EQ(supra_step(list.data(), std::vector<int32_t>(1000, 1).data(), 1000, &error_), SUPRA_OK);
    read = static_cast<double>(host_.bytes() - without) / 1000;
  }
  EXPECT_LE(fresh, 1.1 * floats * sizeof(float));
  // logits are a part of what is saved
  EXPECT_LE(read, 1.1 * (floats + logits) * sizeof(float));
}

}  // namespace
}  // namespace supra
