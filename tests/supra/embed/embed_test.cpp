#include <sys/mman.h>

#include <cfenv>
#include <limits>
#include <thread>

#include "supra/inference/sampler.h"
#include "supra/inference/session.h"
#include "tests/supra/embed/embed_model.h"

namespace supra {
namespace {

class EmbedTest : public testing::Test {
 protected:
  explicit EmbedTest(const Config& config = tiny_config(MixerKind::supra)) {
    write_tiny_model(file_, 5, Dtype::f32, {{"tok.bytes", ""}}, 256, config);
    engine_.reset(supra_open(file_.c_str(), nullptr, &error_));
    EXPECT_TRUE(engine_) << error_.message;
  }

  std::vector<int32_t> ids(size_t count, uint64_t seed = 1) {
    Philox random(seed);
    std::vector<int32_t> ids(count);
    for (int32_t& id : ids) id = static_cast<int32_t>(random.below(256));
    return ids;
  }
  void feed(const SessionPtr& session, const std::vector<int32_t>& ids) {
    EXPECT_EQ(supra_feed(session.get(), ids.data(), ids.size(), &error_), SUPRA_OK) << error_.message;
  }
  // The code and the words that a state is refused with.
  void expect_refused(const std::string& state, const std::string& words) {
    const SessionPtr session = start(engine_);
    feed(session, {1, 2, 3});
    const std::string before = saved(engine_, session);
    EXPECT_EQ(supra_load(session.get(), state.data(), state.size(), &error_), SUPRA_BAD_STATE);
    EXPECT_NE(std::string(error_.message).find(words), std::string::npos) << error_.message;
    EXPECT_EQ(saved(engine_, session), before) << words;
  }
  std::string state_of(const Path& model) {
    const EnginePtr engine(supra_open(model.c_str(), nullptr, nullptr));
    const SessionPtr session = start(engine);
    feed(session, {5, 6, 7});
    return saved(engine, session);
  }

  TempDir dir_;
  const Path file_ = dir_.path() / "model.supra";
  EnginePtr engine_;
  supra_error error_ = {};
};

class EmbedMixersTest : public EmbedTest, public testing::WithParamInterface<HostModel> {
 protected:
  EmbedMixersTest() : EmbedTest(GetParam().config) {}
};

INSTANTIATE_TEST_SUITE_P(Models, EmbedMixersTest, testing::ValuesIn(host_models()), [](const auto& info) { return info.param.name; });

TEST_F(EmbedTest, KnowsWhatACacheWouldTake) {
  Config teacher = tiny_config(MixerKind::softmax);
  teacher.vocab = 256;
  EXPECT_EQ(1000 * supra_cache_bytes(engine_.get()), make_decoder(teacher)->state_bytes(1000));
}

TEST_P(EmbedMixersTest, ComputesWhatASessionDoes) {
  const Model model = load_model(file_, "", Weights::stored);
  Session reference(*model.decoder);
  const std::vector<int32_t> prompt = ids(700);
  const SessionPtr session = start(engine_);
  EXPECT_EQ(supra_logits(session.get()), nullptr);
  EXPECT_EQ(supra_position(session.get()), 0);
  feed(session, prompt);
  flush_denormals();
  reference.feed(prompt);
  const auto expect_equal = [&] {
    const Tensor& logits = reference.logits();
    const std::vector<float> ours = logits_of(engine_, session);
    EXPECT_EQ(memcmp(ours.data(), logits.raw(), logits.bytes()), 0);
  };
  expect_equal();
  for (const int32_t id : ids(20, 2)) {
    supra_session* one = session.get();
    EXPECT_EQ(supra_step(&one, &id, 1, &error_), SUPRA_OK);
    reference.step(std::span(&id, 1));
  }
  expect_equal();
  // on its own choices
  uint64_t random = 1;
  supra_sampling greedy = {};
  greedy.size = sizeof greedy;
  for (int i = 0; i < 20; i++) {
    int32_t id = -1;
    ASSERT_EQ(supra_sample(session.get(), &greedy, &random, &id, &error_), SUPRA_OK) << error_.message;
    const float* logits = reference.logits().data<float>();
    ASSERT_EQ(id, std::max_element(logits, logits + 256) - logits);
    feed(session, {id});
    reference.step(std::span(&id, 1));
  }
  EXPECT_EQ(supra_position(session.get()), 740);
  EXPECT_EQ(saved(engine_, session).size(), supra_state_bytes(engine_.get()));
  EXPECT_EQ(supra_reset(session.get(), &error_), SUPRA_OK);
  EXPECT_EQ(supra_logits(session.get()), nullptr);
  EXPECT_EQ(saved(engine_, session), saved(engine_, start(engine_)));
}

TEST_F(EmbedTest, OpensWhatLiesInMemory) {
  const std::string text = read_file(file_);
  const Tensor bytes = Tensor::empty({static_cast<int64_t>(text.size()) + 1}, Dtype::u8);
  memcpy(bytes.raw(), text.data(), text.size());
  const EnginePtr engine(supra_open_memory(bytes.raw(), text.size(), nullptr, &error_));
  ASSERT_TRUE(engine) << error_.message;
  const SessionPtr here = start(engine), there = start(engine_);
  feed(here, ids(30));
  feed(there, ids(30));
  EXPECT_EQ(saved(engine, here), saved(engine_, there));

  EXPECT_FALSE(supra_open_memory(bytes.data<uint8_t>() + 1, text.size(), nullptr, &error_));
  EXPECT_EQ(error_.code, SUPRA_BAD_ARGUMENT);
  EXPECT_FALSE(supra_open_memory(bytes.raw(), text.size() / 2, nullptr, &error_));
  EXPECT_EQ(error_.code, SUPRA_BAD_MODEL);
  bytes.data<uint8_t>()[9] ^= 1;
  EXPECT_FALSE(supra_open_memory(bytes.raw(), text.size(), nullptr, &error_));
  EXPECT_NE(std::string(error_.message).find("--to packed"), std::string::npos) << error_.message;
}

TEST_F(EmbedTest, WeightsAreCheckedWhereThatIsAskedFor) {
  std::string text = read_file(file_);
  supra_options options = options_of();
  options.flags = SUPRA_CHECK_WEIGHTS;
  const auto code = [&](const supra_options* how) {
    const EnginePtr engine(supra_open(file_.c_str(), how, &error_));
    return engine ? SUPRA_OK : error_.code;
  };
  EXPECT_EQ(code(&options), SUPRA_OK) << error_.message;
  // the last byte belongs to a weight, or to a file of the tokenizer
  text[text.size() - 40] ^= 1;
  write_file_atomically(file_, text);
  EXPECT_EQ(code(nullptr), SUPRA_OK) << error_.message;
  EXPECT_EQ(code(&options), SUPRA_BAD_MODEL);
  EXPECT_NE(std::string(error_.message).find("is damaged"), std::string::npos) << error_.message;
  const Tensor bytes = Tensor::empty({static_cast<int64_t>(text.size())}, Dtype::u8);
  memcpy(bytes.raw(), text.data(), text.size());
  EXPECT_FALSE(supra_open_memory(bytes.raw(), text.size(), &options, &error_));
  EXPECT_NE(std::string(error_.message).find("is damaged"), std::string::npos) << error_.message;
  EXPECT_FALSE(supra_open(dir_.path().c_str(), &options, &error_));
  EXPECT_EQ(error_.code, SUPRA_BAD_MODEL);
  EXPECT_NE(std::string(error_.message).find("is a folder"), std::string::npos) << error_.message;
  options.flags = 2;
  EXPECT_EQ(code(&options), SUPRA_BAD_ARGUMENT);
}

TEST_P(EmbedMixersTest, GoesOnWithTheSameBits) {
  const SessionPtr session = start(engine_);
  feed(session, ids(40));
  const SessionPtr clone(supra_clone(session.get(), &error_)), loaded = start(engine_),
                                                               copied = start(engine_);
  const std::string state = saved(engine_, session);
  EXPECT_EQ(supra_load(loaded.get(), state.data(), state.size(), &error_), SUPRA_OK) << error_.message;
  EXPECT_EQ(supra_copy(copied.get(), session.get(), &error_), SUPRA_OK);
  EXPECT_EQ(logits_of(engine_, loaded), logits_of(engine_, session));
  feed(session, ids(9, 3));
  const std::string after = saved(engine_, session);
  for (const SessionPtr* other : {&clone, &loaded, &copied}) {
    EXPECT_EQ(saved(engine_, *other), state);
    feed(*other, ids(9, 3));
    EXPECT_EQ(saved(engine_, *other), after);
  }
  // back to where it was, and to where nothing was read
  EXPECT_EQ(supra_load(session.get(), state.data(), state.size(), &error_), SUPRA_OK);
  EXPECT_EQ(saved(engine_, session), state);
  EXPECT_EQ(supra_copy(session.get(), start(engine_).get(), &error_), SUPRA_OK);
  EXPECT_EQ(supra_logits(session.get()), nullptr);
}

TEST_F(EmbedTest, RefusesAStateByName) {
  const std::string state = state_of(file_);
  const SessionPtr session = start(engine_);
  std::string flipped = state;
  for (size_t bit = 0; bit < state.size() * 8; bit++) {
    const char mask = static_cast<char>(1 << bit % 8);
    flipped[bit / 8] ^= mask;
    EXPECT_EQ(supra_load(session.get(), flipped.data(), flipped.size(), &error_), SUPRA_BAD_STATE) << bit;
    flipped[bit / 8] ^= mask;
  }
  for (size_t size = 0; size < state.size(); size++) {
    EXPECT_EQ(supra_load(session.get(), state.data(), size, &error_), SUPRA_BAD_STATE) << size;
  }
  EXPECT_EQ(supra_load(session.get(), (state + "x").data(), state.size() + 1, &error_), SUPRA_BAD_STATE);
  EXPECT_EQ(supra_position(session.get()), 0);
  flipped[state.size() / 2] ^= 1;
  expect_refused(flipped, "damaged");
  expect_refused(state.substr(0, state.size() - 1), "cut");
  expect_refused(state.substr(0, 20), "cut");
  expect_refused("no state at all", "not a state");
  std::string other_version = state;
  other_version[8]++;
  expect_refused(other_version, "version 2");

  write_tiny_model(dir_.path() / "seed.supra", 6);
  expect_refused(state_of(dir_.path() / "seed.supra"), "other weights");
  write_tiny_model(dir_.path() / "half.supra", 5, Dtype::f16);
  expect_refused(state_of(dir_.path() / "half.supra"), "f16");
  Model wide = byte_model(MixerKind::supra);
  Config config = wide.config();
  config.layers = 3;
  config.mixers.push_back(MixerKind::supra);
  wide.decoder = make_decoder(config);
  wide.decoder->init_weights(1);
  save_model(wide, dir_.path() / "wide");
  expect_refused(state_of(dir_.path() / "wide"), "another shape");
  // the same model in another layout is the same
  Model same = load_model(file_);
  save_model(same, dir_.path() / "same");
  EXPECT_EQ(state_of(dir_.path() / "same"), state);
}

TEST_P(EmbedMixersTest, ABatchEqualsOneByOne) {
  std::vector<SessionPtr> together, alone;
  std::vector<supra_session*> list;
  std::vector<int32_t> next;
  for (int b = 0; b < 64; b++) {
    together.push_back(start(engine_));
    alone.push_back(start(engine_));
    // of different lengths, some none
    for (const SessionPtr* session : {&together.back(), &alone.back()}) feed(*session, ids(static_cast<size_t>(b % 7 * 4), static_cast<uint64_t>(b)));
    list.push_back(together.back().get());
  }
  for (uint64_t step = 0; step < 8; step++) {
    next = ids(64, 100 + step);
    ASSERT_EQ(supra_step(list.data(), next.data(), 64, &error_), SUPRA_OK) << error_.message;
    for (size_t b = 0; b < 64; b++) feed(alone[b], {next[b]});
  }
  for (size_t b = 0; b < 64; b++) {
    EXPECT_EQ(supra_position(together[b].get()), supra_position(alone[b].get()));
    // what differs by rounding may do so by 16 bits
    expect_close(Tensor::of(logits_of(engine_, together[b])), Tensor::of(logits_of(engine_, alone[b])),
                 format("session %zu", b), GetParam().config.state_dtype == Dtype::f16 ? 100 : 1);
  }
}

TEST_F(EmbedTest, TextIsNeverSplitInACharacter) {
  const SessionPtr session = start(engine_);
  const std::string text = "h\u00e9 \u4e16 \U0001f600!";
  std::string shown;
  char room[16];
  for (const char byte : text) {
    size_t written = 99;
    const int32_t id = static_cast<uint8_t>(byte);
    // no room: nothing has happened
    const int code = supra_text(session.get(), id, room, 0, &written, &error_);
    EXPECT_EQ(code, written > 0 ? SUPRA_NO_ROOM : SUPRA_OK);
    if (code == SUPRA_OK) continue;
    ASSERT_EQ(supra_text(session.get(), id, room, sizeof room, &written, &error_), SUPRA_OK);
    shown.append(room, written);
    EXPECT_EQ(text.substr(0, shown.size()), shown);
  }
  EXPECT_EQ(shown, text);
  // a character in the middle of which the session is saved
  const SessionPtr other = start(engine_);
  size_t written = 0;
  EXPECT_EQ(supra_text(session.get(), 0xe4, room, sizeof room, &written, nullptr), SUPRA_OK);
  EXPECT_EQ(written, 0u);
  const std::string state = saved(engine_, session);
  EXPECT_EQ(supra_load(other.get(), state.data(), state.size(), nullptr), SUPRA_OK);
  EXPECT_EQ(supra_text(other.get(), 0xb8, room, sizeof room, &written, nullptr), SUPRA_OK);
  EXPECT_EQ(supra_text(other.get(), 0x96, room, sizeof room, &written, nullptr), SUPRA_OK);
  EXPECT_EQ(std::string(room, written), "\u4e16");
  EXPECT_EQ(supra_text(session.get(), -1, room, sizeof room, &written, nullptr), SUPRA_OK);
  EXPECT_EQ(std::string(room, written), "\ufffd");
}

// Programs of another supra.h than the library's. A struct ends where nothing may be read.
TEST_F(EmbedTest, StructsOfOtherSizesAreReadAsFarAsBothKnow) {
  const size_t page = 1 << 16;
  char* const pages = static_cast<char*>(mmap(nullptr, 2 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  ASSERT_EQ(mprotect(pages + page, page, PROT_NONE), 0);
  const auto open = [&](uint32_t said, size_t there, const supra_options& options, char last = 0) {
    char* const given = pages + page - there;
    memset(given, 0, there);
    memcpy(given, &options, std::min(there, sizeof options));
    if (last) given[there - 1] = last;
    memcpy(given, &said, std::min(there, sizeof said));
    const EnginePtr engine(supra_open(file_.c_str(), reinterpret_cast<supra_options*>(given), &error_));
    return engine ? SUPRA_OK : error_.code;
  };
  constexpr uint32_t own = sizeof(supra_options);
  EXPECT_EQ(open(own, own, options_of()), SUPRA_OK);
  EXPECT_EQ(open(own, own, options_of(-1)), SUPRA_BAD_ARGUMENT);
  // only the size is read of what cannot be one
  for (const uint32_t size : {0u, 4u, own - 1, 5000u, UINT32_MAX}) {
    EXPECT_EQ(open(size, sizeof size, options_of()), SUPRA_BAD_ARGUMENT) << size;
    EXPECT_NE(std::string(error_.message).find("sizeof(supra_options)"), std::string::npos) << error_.message;
  }
  // a later version, whose further fields are not used, then one that is
  EXPECT_EQ(open(own + 8, own + 8, options_of()), SUPRA_OK) << error_.message;
  EXPECT_EQ(open(own + 8, own + 8, options_of(-1)), SUPRA_BAD_ARGUMENT);
  EXPECT_EQ(open(own + 8, own + 8, options_of(), 1), SUPRA_BAD_ARGUMENT);
  EXPECT_NE(std::string(error_.message).find("does not know"), std::string::npos) << error_.message;

  const SessionPtr session = start(engine_);
  feed(session, {1, 2});
  uint64_t random = 1;
  int32_t id;
  char* const given = pages + page - sizeof(uint32_t);
  memset(given, 0, sizeof(uint32_t));
  EXPECT_EQ(supra_sample(session.get(), reinterpret_cast<supra_sampling*>(given), &random, &id, &error_), SUPRA_BAD_ARGUMENT);
  EXPECT_NE(std::string(error_.message).find("sizeof(supra_sampling)"), std::string::npos) << error_.message;
  munmap(pages, 2 * page);
}

TEST_F(EmbedTest, SamplesAsASamplerDoes) {
  const SessionPtr session = start(engine_);
  const supra_sampling sampling = sampling_of(0.9f, 40, 0.95f, 0.01f);
  uint64_t random = 7;
  int32_t id = -1;
  EXPECT_EQ(supra_sample(session.get(), &sampling, &random, &id, &error_), SUPRA_BAD_ARGUMENT);
  EXPECT_EQ(random, 7u);
  feed(session, ids(10));
  std::vector<int32_t> chosen;
  for (int i = 0; i < 20; i++) {
    SamplerOptions options;
    options.temperature = sampling.temperature;
    options.top_k = sampling.top_k;
    options.top_p = sampling.top_p;
    options.min_p = sampling.min_p;
    options.seed = random;
    const int32_t expected = Sampler(options).choose(logits_of(engine_, session));
    ASSERT_EQ(supra_sample(session.get(), &sampling, &random, &id, &error_), SUPRA_OK) << error_.message;
    EXPECT_EQ(id, expected);
    chosen.push_back(id);
  }
  EXPECT_NE(chosen, std::vector<int32_t>(20, chosen[0]));
  const supra_sampling likeliest = sampling_of(0), wrong = sampling_of(-1);
  EXPECT_EQ(supra_sample(session.get(), &likeliest, &random, &id, &error_), SUPRA_OK);
  const std::vector<float> logits = logits_of(engine_, session);
  EXPECT_EQ(id, std::max_element(logits.begin(), logits.end()) - logits.begin());
  EXPECT_EQ(supra_sample(session.get(), &wrong, &random, &id, &error_), SUPRA_BAD_ARGUMENT);

  // ids that are penalised enough come last, and zero is the default of every field
  supra_sampling penalised = {};
  penalised.size = sizeof penalised;
  std::vector<int32_t> recent;
  // greedy takes each positive logit once, then one of them again: they are still above 0
  while (std::count(recent.begin(), recent.end(), id) == 0) {
    recent.push_back(id);
    penalised.repeat_penalty = 1e6f;
    penalised.recent = recent.data();
    penalised.recent_count = recent.size();
    ASSERT_EQ(supra_sample(session.get(), &penalised, &random, &id, &error_), SUPRA_OK) << error_.message;
  }
  EXPECT_EQ(static_cast<int64_t>(recent.size()), std::count_if(logits.begin(), logits.end(), [](float x) { return x > 0; }));
  penalised.repeat_penalty = 0;
  EXPECT_EQ(supra_sample(session.get(), &penalised, &random, &id, &error_), SUPRA_OK);
  EXPECT_EQ(id, recent[0]);
}

TEST_F(EmbedTest, ACancelledCallHasNotHappened) {
  struct Told {
    std::vector<double> parts;
    size_t cancel_at;
  } told = {{}, 1000};
  supra_options options = options_of();
  options.user = &told;
  options.progress = [](void* user, double done) {
    Told& told = *static_cast<Told*>(user);
    told.parts.push_back(done);
    return told.parts.size() == told.cancel_at ? 1 : 0;
  };
  const EnginePtr engine(supra_open(file_.c_str(), &options, &error_));
  const SessionPtr session = start(engine);
  feed(session, ids(1000));
  ASSERT_GE(told.parts.size(), 4u);
  EXPECT_TRUE(std::is_sorted(told.parts.begin(), told.parts.end()));
  EXPECT_EQ(told.parts.back(), 1);
  const std::string before = saved(engine, session);
  for (size_t at = 1; at <= 4; at++) {
    told = {{}, at};
    const std::vector<int32_t> more = ids(1000, 2);
    EXPECT_EQ(supra_feed(session.get(), more.data(), more.size(), &error_), SUPRA_CANCELLED);
    EXPECT_EQ(saved(engine, session), before);
  }
}

TEST_F(EmbedTest, SaysWhatIsWrong) {
  const SessionPtr session = start(engine_);
  const auto expect = [&](int code, supra_code wanted, const char* words) {
    EXPECT_EQ(code, wanted) << error_.message;
    EXPECT_EQ(error_.code, wanted);
    EXPECT_NE(std::string(error_.message).find(words), std::string::npos) << error_.message;
  };
  const int32_t bad = 256, good = 1;
  supra_session* twice[] = {session.get(), session.get()};
  const int32_t two[] = {1, 2};
  expect(supra_feed(session.get(), &bad, 1, &error_), SUPRA_BAD_ARGUMENT, "id 256");
  expect(supra_feed(session.get(), nullptr, 1, &error_), SUPRA_BAD_ARGUMENT, "null");
  expect(supra_feed(nullptr, &good, 1, &error_), SUPRA_BAD_ARGUMENT, "null");
  expect(supra_step(twice, two, 2, &error_), SUPRA_BAD_ARGUMENT, "twice");
  EXPECT_EQ(supra_position(session.get()), 0);
  EXPECT_EQ(supra_feed(session.get(), nullptr, 0, &error_), SUPRA_OK);
  char small[8];
  size_t written = 0;
  expect(supra_save(session.get(), small, sizeof small, &written, &error_), SUPRA_NO_ROOM, "8 bytes");
  EXPECT_EQ(written, supra_state_bytes(engine_.get()));
  int32_t room[2];
  expect(supra_encode(engine_.get(), "abc", 3, 0, room, 2, &written, &error_), SUPRA_NO_ROOM, "3 are needed");
  EXPECT_EQ(supra_encode(engine_.get(), "ab", 2, 0, room, 2, &written, &error_), SUPRA_OK);
  EXPECT_EQ(room[1], 'b');
  const EnginePtr another(supra_open(file_.c_str(), nullptr, nullptr));
  const SessionPtr stranger = start(another);
  supra_session* mixed[] = {session.get(), stranger.get()};
  expect(supra_step(mixed, two, 2, &error_), SUPRA_BAD_ARGUMENT, "another engine");
  expect(supra_copy(session.get(), stranger.get(), &error_), SUPRA_BAD_ARGUMENT, "different engines");

  EXPECT_FALSE(supra_open((dir_.path() / "absent").c_str(), nullptr, &error_));
  EXPECT_EQ(error_.code, SUPRA_BAD_MODEL);
  EXPECT_FALSE(supra_open(nullptr, nullptr, &error_));
  EXPECT_EQ(error_.code, SUPRA_BAD_ARGUMENT);
  EXPECT_FALSE(supra_open(nullptr, nullptr, nullptr));
  save_model(byte_model(MixerKind::softmax), dir_.path() / "softmax");
  EXPECT_FALSE(supra_open((dir_.path() / "softmax").c_str(), nullptr, &error_));
  expect(error_.code, SUPRA_BAD_MODEL, "supra linearize");
  // a long message ends in a whole character
  std::string name;
  while (name.size() < 600) name += "\u00e9";
  EXPECT_FALSE(supra_open(name.c_str(), nullptr, &error_));
  EXPECT_LE(strlen(error_.message), 255u);
  EXPECT_NE(error_.message[strlen(error_.message) - 1], '\xc3');
}

// A host may round as it likes, and keep denormals: neither its own numbers nor ours change by that.
TEST_F(EmbedTest, TheCallersRoundingStaysItsOwn) {
  const SessionPtr usual = start(engine_);
  feed(usual, ids(700));
  const std::string expected = saved(engine_, usual);
#if defined(__x86_64__)
  // other tests may have left the thread flushing
  const unsigned control = __builtin_ia32_stmxcsr();
  __builtin_ia32_ldmxcsr(0x1f80);
#endif
  volatile float smallest = std::numeric_limits<float>::min();
  const bool keeps_denormals = smallest / 2 > 0;
  for (const int rounding : {FE_UPWARD, FE_TOWARDZERO}) {
    for (const int threads : {1, 2}) {
      const supra_options options = options_of(threads);
      const int before = fegetround();
      fesetround(rounding);
      const EnginePtr engine(supra_open(file_.c_str(), &options, &error_));
      const SessionPtr session = start(engine);
      feed(session, ids(700));
      const std::string found = saved(engine, session);
      const int code = supra_load(usual.get(), found.data(), found.size(), &error_);
      EXPECT_EQ(fegetround(), rounding);
      EXPECT_EQ(smallest / 2 > 0, keeps_denormals);
      fesetround(before);
      EXPECT_EQ(code, SUPRA_OK) << error_.message;
      EXPECT_EQ(found, expected) << threads << " threads";
    }
  }
#if defined(__x86_64__)
  __builtin_ia32_ldmxcsr(control);
#endif
}

// Under `make tsan` this is the proof that an engine may be shared.
TEST_F(EmbedTest, ManyThreadsShareAnEngine) {
  for (const int threads : {1, 2}) {
    const supra_options options = options_of(threads);
    const EnginePtr engine(supra_open(file_.c_str(), &options, &error_));
    const auto live = [&](uint64_t seed) {
      const SessionPtr session = start(engine), other = start(engine);
      feed(session, ids(30, seed));
      const std::string state = saved(engine, session);
      supra_load(other.get(), state.data(), state.size(), nullptr);
      supra_session* both[] = {session.get(), other.get()};
      for (int32_t step = 0; step < 20; step++) {
        const int32_t next[] = {step, step};
        supra_step(both, next, 2, nullptr);
      }
      return saved(engine, session) + saved(engine, other);
    };
    std::vector<std::string> expected, found(4);
    for (uint64_t t = 0; t < 4; t++) expected.push_back(live(t));
    std::vector<std::thread> callers;
    for (uint64_t t = 0; t < 4; t++) {
      callers.emplace_back([&, t] {
        for (int again = 0; again < 3; again++) found[t] = live(t);
      });
    }
    for (std::thread& caller : callers) caller.join();
    EXPECT_EQ(found, expected);
  }
}

}  // namespace
}  // namespace supra
