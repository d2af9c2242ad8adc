#include <algorithm>
#include <cstdarg>
#include <cstring>
#include <filesystem>
#include <new>
#include <optional>
#include <system_error>

#include "supra/embed/timeline.h"
#include "supra/formats/weights/checksums.h"
#include "supra/inference/sampler.h"
#include "supra/supra.h"

// The functions of supra.h. Each checks its arguments, catches every exception, and calls Engine or Timeline.

using namespace supra;

struct supra_engine {
  Memory memory;  // of the engine, so it is created first and destroyed last
  std::optional<Engine> made;
};

struct supra_session {
  explicit supra_session(const supra_engine& engine) : engine(engine), timeline(*engine.made) {}
  supra_session(const supra_session&) = default;
  const supra_engine& engine;
  Timeline timeline;
};

namespace {

// A failure with its code.
struct Refusal : Error {
  Refusal(supra_code code, const std::string& message) : Error(message), code(code) {}
  supra_code code;
};

[[gnu::format(printf, 3, 4)]] void require(bool condition, supra_code code, const char* message, ...) {
  if (condition) return;
  char text[sizeof(supra_error::message)];
  va_list args;
  va_start(args, message);
  vsnprintf(text, sizeof text, message, args);
  va_end(args);
  throw Refusal(code, text);
}

int report(supra_error* error, supra_code code, const char* function, const char* message) noexcept {
  if (!error) return code;
  error->code = code;
  char* const text = error->message;
  const size_t room = sizeof error->message;
  const int needed = snprintf(text, room, "%s: %s", function, message);
  if (needed < 0 || static_cast<size_t>(needed) < room) return code;
  // not cut in the middle of a character
  size_t size = room - 1;
  while ((text[size - 1] & 0xc0) == 0x80) size--;
  if (text[size - 1] & 0x80) size--;
  text[size] = '\0';
  return code;
}

// Runs f for a function of supra.h. `usual`: the code of an Error in it.
template <class F>
int guarded(supra_error* error, const char* function, supra_code usual, F f) noexcept {
  try {
    f();
    if (error) *error = {};
    return SUPRA_OK;
  } catch (const Refusal& refusal) {
    return report(error, refusal.code, function, refusal.what());
  } catch (const OutOfMemory& none) {
    return report(error, SUPRA_NO_MEMORY, function, none.what());
  } catch (const std::bad_alloc&) {
    return report(error, SUPRA_NO_MEMORY, function, "out of memory: the allocator gave none");
  } catch (const Error& told) {
    return report(error, usual, function, told.what());
  } catch (const std::system_error& told) {
    return report(error, usual, function, told.what());
  } catch (const std::exception& unknown) {
    return report(error, SUPRA_BROKEN, function, unknown.what());
  } catch (...) {
    return report(error, SUPRA_BROKEN, function, "something was thrown that is no error");
  }
}

void require_engine(const supra_engine* engine) { require(engine, SUPRA_BAD_ARGUMENT, "the engine is null"); }

void require_session(const supra_session* session) {
  require(session, SUPRA_BAD_ARGUMENT, "the session is null");
}

void require_id(const supra_engine& engine, int32_t id) {
  require(id >= 0 && id < engine.made->vocabulary(), SUPRA_BAD_ARGUMENT, "id %d is not in the vocabulary of %lld",
          id, static_cast<long long>(engine.made->vocabulary()));
}

void require_buffer(const void* buffer, size_t size, const char* what) {
  require(buffer || size == 0, SUPRA_BAD_ARGUMENT, "the %s is null", what);
}

// Converts a struct of the caller to this library's version. Its first word is its size in the caller's supra.h, and is checked
// before anything else is read. `first_size`: the size of its first version.
template <class T>
T known_part(const T* given, size_t first_size, const char* name) {
  uint32_t size;
  memcpy(&size, given, sizeof size);
  constexpr size_t kLargest = 4096;
  require(size >= first_size && size <= kLargest, SUPRA_BAD_ARGUMENT,
          "%s.size is %u, expected %zu (set the struct to zero, then size = sizeof(%s))", name, size, sizeof(T), name);
  T known = {};
  memcpy(&known, given, std::min<size_t>(size, sizeof known));
  const char* const bytes = reinterpret_cast<const char*>(given);
  for (size_t i = sizeof known; i < size; i++)
    require(bytes[i] == 0, SUPRA_BAD_ARGUMENT,
            "%s has a field that this library does not know, byte %zu of %u (leave it 0, or link the library that came "
            "with this supra.h)",
            name, i, size);
  return known;
}

void require_flags(uint64_t flags, uint64_t known) {
  require((flags & ~known) == 0, SUPRA_BAD_ARGUMENT, "the flags are 0x%llx, only 0x%llx can be among them here",
          static_cast<unsigned long long>(flags), static_cast<unsigned long long>(known));
}

std::vector<int32_t> encode(const supra_engine& engine, std::string_view text, uint32_t flags) {
  require_flags(flags, SUPRA_SPECIAL | SUPRA_CONTINUE | SUPRA_BOS);
  const Tokenizer& tokenizer = engine.made->needed_tokenizer();
  EncodeOptions options;
  options.parse_special = flags & SUPRA_SPECIAL;
  options.continues = flags & SUPRA_CONTINUE;
  std::vector<int32_t> ids = tokenizer.encode(text, options);
  if ((flags & SUPRA_BOS) && tokenizer.adds_bos()) ids.insert(ids.begin(), tokenizer.bos());
  return ids;
}

// Sets *written, then checks that there is room for as much.
void require_room(size_t needed, size_t room, size_t* written, const char* unit) {
  if (written) *written = needed;
  require(needed <= room, SUPRA_NO_ROOM, "there is room for %zu %s, %zu are needed", room, unit, needed);
}

void close_engine(supra_engine* engine) noexcept {
  const Memory memory = engine->memory;
  {
    const UseMemory here(&engine->memory);
    engine->~supra_engine();
  }
  memory.give_back(engine, sizeof *engine);
}

template <class Read>
supra_engine* open_engine(const supra_options* given, supra_error* error, const char* function,
                          Read read) noexcept {
  supra_engine* engine = nullptr;
  const int code = guarded(error, function, SUPRA_BAD_MODEL, [&] {
    constexpr size_t kFirstSize = offsetof(supra_options, flags) + sizeof given->flags;
    supra_options options = {};
    if (given) options = known_part(given, kFirstSize, "supra_options");
    require(options.threads >= 0 && options.threads <= 1024, SUPRA_BAD_ARGUMENT,
            "%d threads, 0 to 1024 are possible", options.threads);
    require_flags(options.flags, SUPRA_CHECK_WEIGHTS);
    require(!options.allocate == !options.release, SUPRA_BAD_ARGUMENT,
            "allocate and release go together, one of them is null");
    const Memory memory = {options.allocate, options.release, options.user};
    void* const room = memory.take(sizeof(supra_engine), alignof(supra_engine));
    if (!room) throw std::bad_alloc();
    engine = new (room) supra_engine{memory, {}};
    std::function<void(double)> progress;
    const UseMemory here(&engine->memory);
    if (options.progress) {
      progress = [call = options.progress, user = options.user](double done) {
        const UseMemory hosts(nullptr);
        require(call(user, done) == 0, SUPRA_CANCELLED,
                "cancelled by the caller's progress function at %.0f %%", 100 * done);
      };
    }
    engine->made.emplace(engine->memory, std::max(1, options.threads), std::move(progress),
                         [&] { return read(options.flags & SUPRA_CHECK_WEIGHTS); });
  });
  if (code == SUPRA_OK) return engine;
  // not earlier, because the exception was in its memory
  if (engine) close_engine(engine);
  return nullptr;
}

// Runs f with the memory and threads of a session's engine.
template <class F>
void in(const supra_session& session, F f) {
  const EngineCall call(*session.engine.made);
  f();
}

}  // namespace

extern "C" {

uint32_t supra_api_version(void) { return SUPRA_API_VERSION; }

supra_engine* supra_open(const char* path, const supra_options* options, supra_error* error) {
  return open_engine(options, error, __func__, [&](bool check) {
    require(path, SUPRA_BAD_ARGUMENT, "the path is null");
    if (check) {
      std::error_code none;
      require(!std::filesystem::is_directory(path, none), SUPRA_BAD_MODEL,
              "%s: is a folder, only a packed model carries checksums (supra convert --to packed)", path);
      check_weights(MappedFile(path));
    }
    return load_model(path, "", Weights::stored);
  });
}

supra_engine* supra_open_memory(const void* model, size_t bytes, const supra_options* options,
                                supra_error* error) {
  return open_engine(options, error, __func__, [&](bool check) {
    require(model, SUPRA_BAD_ARGUMENT, "the model is null");
    require(
        reinterpret_cast<uintptr_t>(model) % 64 == 0, SUPRA_BAD_ARGUMENT,
        "the model lies at %p, a multiple of 64 is needed (alignas(64), or aligned_alloc)",
        model);
    const MappedFile file("the model in memory", model, bytes, nullptr);
    if (check) check_weights(file);
    return load_model(file, Weights::stored);
  });
}

void supra_close(supra_engine* engine) {
  if (engine) close_engine(engine);
}

int32_t supra_vocabulary(const supra_engine* engine) {
  return engine ? static_cast<int32_t>(engine->made->vocabulary()) : 0;
}

int32_t supra_bos(const supra_engine* engine) {
  return engine && engine->made->tokenizer() ? engine->made->tokenizer()->bos() : -1;
}

int32_t supra_eos(const supra_engine* engine) {
  return engine && engine->made->tokenizer() ? engine->made->tokenizer()->eos() : -1;
}

size_t supra_state_bytes(const supra_engine* engine) {
  return engine ? blob_bytes(engine->made->fingerprint()) : 0;
}

size_t supra_cache_bytes(const supra_engine* engine) { return engine ? engine->made->cache_bytes() : 0; }

int supra_is_end(const supra_engine* engine, int32_t id) { return engine && engine->made->is_end(id); }

int32_t supra_special(const supra_engine* engine, const char* text, size_t bytes, supra_error* error) {
  int32_t id = -1;
  guarded(error, __func__, SUPRA_BAD_ARGUMENT, [&] {
    require_engine(engine);
    require_buffer(text, bytes, "text");
    const EngineCall call(*engine->made);
    id = engine->made->needed_tokenizer().special_id({text, bytes});
    require(id >= 0, SUPRA_BAD_ARGUMENT, "the model has no special token of the text %.*s",
            static_cast<int>(std::min<size_t>(bytes, 60)), text ? text : "");
  });
  return id;
}

int supra_encode(const supra_engine* engine, const char* text, size_t bytes, uint32_t flags, int32_t* ids,
                 size_t room, size_t* written, supra_error* error) {
  return guarded(error, __func__, SUPRA_BAD_ARGUMENT, [&] {
    require_engine(engine);
    require_buffer(text, bytes, "text");
    require_buffer(ids, room, "room for ids");
    const EngineCall call(*engine->made);
    const std::vector<int32_t> found = encode(*engine, {text, bytes}, flags);
    require_room(found.size(), room, written, "ids");
    std::copy(found.begin(), found.end(), ids);
  });
}

const char* supra_chat_template(const supra_engine* engine) {
  return engine && engine->made->tokenizer() ? engine->made->tokenizer()->chat_template().c_str() : "";
}

int supra_render_chat(const supra_engine* engine, const supra_message* messages, size_t count, uint32_t flags,
                      char* text, size_t room, size_t* written, supra_error* error) {
  return guarded(error, __func__, SUPRA_BAD_ARGUMENT, [&] {
    require_engine(engine);
    require_buffer(messages, count, "list of messages");
    require_buffer(text, room, "room for text");
    require_flags(flags, SUPRA_SPECIAL | SUPRA_CONTINUE);
    const EngineCall call(*engine->made);
    std::vector<ChatMessage> conversation;
    for (size_t i = 0; i < count; i++) {
      const supra_message& message = messages[i];
      require(message.role, SUPRA_BAD_ARGUMENT, "the role of message %zu is null", i);
      require_buffer(message.text, message.bytes, "text of a message");
      conversation.push_back({message.role, std::string(message.text ? message.text : "", message.bytes)});
    }
    const ChatTemplate* const chat = engine->made->chat();
    require(chat, SUPRA_NO_TEMPLATE, "the model has no chat template of a known form: %s",
            *supra_chat_template(engine) ? "see supra_chat_template, and write its text yourself" : "it has none");
    for (ChatMessage& message : conversation) {
      if (!(flags & SUPRA_SPECIAL)) message.content = without_special(engine->made->needed_tokenizer(), message.content);
    }
    std::string all;
    if (flags & SUPRA_CONTINUE) {
      require(count == 1 && conversation[0].role == "user", SUPRA_BAD_ARGUMENT,
              "%zu messages with SUPRA_CONTINUE, one of the user is expected", count);
      all = chat->render_next(conversation[0].content);
    } else {
      all = chat->render(conversation, true);
    }
    require_room(all.size(), room, written, "bytes");
    if (!all.empty()) memcpy(text, all.data(), all.size());
  });
}

supra_session* supra_start(const supra_engine* engine, supra_error* error) {
  supra_session* session = nullptr;
  guarded(error, __func__, SUPRA_BAD_ARGUMENT, [&] {
    require_engine(engine);
    const UseMemory here(&engine->memory);
    session = new supra_session(*engine);
  });
  return session;
}

void supra_end(supra_session* session) {
  if (!session) return;
  const UseMemory here(&session->engine.memory);
  delete session;
}

int supra_reset(supra_session* session, supra_error* error) {
  return guarded(error, __func__, SUPRA_BAD_ARGUMENT, [&] {
    require_session(session);
    session->timeline.reset();
  });
}

int supra_feed(supra_session* session, const int32_t* ids, size_t count, supra_error* error) {
  return guarded(error, __func__, SUPRA_BAD_ARGUMENT, [&] {
    require_session(session);
    require_buffer(ids, count, "list of ids");
    for (size_t i = 0; i < count; i++) require_id(session->engine, ids[i]);
    in(*session, [&] { session->timeline.feed({ids, count}); });
  });
}

int supra_feed_text(supra_session* session, const char* text, size_t bytes, uint32_t flags, supra_error* error) {
  return guarded(error, __func__, SUPRA_BAD_ARGUMENT, [&] {
    require_session(session);
    require_buffer(text, bytes, "text");
    in(*session, [&] {
      const bool begins = session->timeline.position() == 0 && !(flags & SUPRA_CONTINUE);
      session->timeline.feed(encode(session->engine, {text, bytes}, flags | (begins ? SUPRA_BOS : 0)));
    });
  });
}

int supra_step(supra_session* const* sessions, const int32_t* ids, size_t count, supra_error* error) {
  return guarded(error, __func__, SUPRA_BAD_ARGUMENT, [&] {
    require_buffer(sessions, count, "list of sessions");
    require_buffer(ids, count, "list of ids");
    if (count == 0) return;
    require_session(sessions[0]);
    in(*sessions[0], [&] {
      std::vector<Timeline*> timelines;
      for (size_t i = 0; i < count; i++) {
        require_session(sessions[i]);
        require(&sessions[i]->engine == &sessions[0]->engine, SUPRA_BAD_ARGUMENT,
                "session %zu is of another engine", i);
        require_id(sessions[i]->engine, ids[i]);
        timelines.push_back(&sessions[i]->timeline);
      }
      std::vector<Timeline*> sorted = timelines;
      std::sort(sorted.begin(), sorted.end());
      require(std::adjacent_find(sorted.begin(), sorted.end()) == sorted.end(), SUPRA_BAD_ARGUMENT,
              "a session stands twice among the %zu", count);
      Timeline::step(timelines, {ids, count});
    });
  });
}

const float* supra_logits(const supra_session* session) {
  return session ? session->timeline.logits() : nullptr;
}
int64_t supra_position(const supra_session* session) { return session ? session->timeline.position() : 0; }

int supra_sample(const supra_session* session, const supra_sampling* sampling, uint64_t* random, int32_t* id,
                 supra_error* error) {
  return guarded(error, __func__, SUPRA_BAD_ARGUMENT, [&] {
    require_session(session);
    require(sampling && random && id, SUPRA_BAD_ARGUMENT, "sampling, random or id is null");
    constexpr size_t kFirstSize = offsetof(supra_sampling, recent_count) + sizeof sampling->recent_count;
    const supra_sampling how = known_part(sampling, kFirstSize, "supra_sampling");
    require_buffer(how.recent, how.recent_count, "list of recent ids");
    for (size_t i = 0; i < how.recent_count; i++) require_id(session->engine, how.recent[i]);
    const float* const logits = session->timeline.logits();
    require(logits, SUPRA_BAD_ARGUMENT,
            "the session has read nothing yet (feed it a text or BOS)");
    in(*session, [&] {
      SamplerOptions options;
      options.temperature = how.temperature;
      options.top_k = how.top_k;
      options.top_p = how.top_p == 0 ? 1 : how.top_p;
      options.min_p = how.min_p;
      options.repeat_penalty = how.repeat_penalty == 0 ? 1 : how.repeat_penalty;
      options.repeat_window = static_cast<int64_t>(how.recent_count);
      options.seed = *random;
      *id = Sampler(options).choose({logits, static_cast<size_t>(session->engine.made->vocabulary())},
                                    {how.recent, how.recent_count});
    });
    // the next seed is a step of Knuth's generator (MMIX), so that neighbouring seeds do not give the same sequence shifted
    *random = *random * 6364136223846793005u + 1442695040888963407u;
  });
}

int supra_text(supra_session* session, int32_t id, char* text, size_t room, size_t* written,
               supra_error* error) {
  return guarded(error, __func__, SUPRA_BAD_ARGUMENT, [&] {
    require_session(session);
    require_buffer(text, room, "room for text");
    if (id != -1) require_id(session->engine, id);
    in(*session, [&] {
      Timeline::Said said = session->timeline.say(id);
      require_room(said.text.size(), room, written, "bytes");
      if (!said.text.empty()) memcpy(text, said.text.data(), said.text.size());
      session->timeline.said(std::move(said));
    });
  });
}

supra_session* supra_clone(const supra_session* session, supra_error* error) {
  supra_session* clone = nullptr;
  guarded(error, __func__, SUPRA_BAD_ARGUMENT, [&] {
    require_session(session);
    const UseMemory here(&session->engine.memory);
    clone = new supra_session(*session);
  });
  return clone;
}

int supra_copy(supra_session* to, const supra_session* from, supra_error* error) {
  return guarded(error, __func__, SUPRA_BAD_ARGUMENT, [&] {
    require_session(to);
    require_session(from);
    require(&to->engine == &from->engine, SUPRA_BAD_ARGUMENT,
            "the sessions are of different engines");
    const UseMemory here(&to->engine.memory);
    to->timeline = from->timeline;
  });
}

int supra_save(const supra_session* session, void* buffer, size_t room, size_t* written, supra_error* error) {
  return guarded(error, __func__, SUPRA_BAD_ARGUMENT, [&] {
    require_session(session);
    require_buffer(buffer, room, "buffer");
    const Fingerprint& model = session->engine.made->fingerprint();
    require_room(blob_bytes(model), room, written, "bytes");
    write_blob(model, session->timeline.snapshot(), buffer);
  });
}

int supra_load(supra_session* session, const void* buffer, size_t bytes, supra_error* error) {
  return guarded(error, __func__, SUPRA_BAD_STATE, [&] {
    require_session(session);
    require_buffer(buffer, bytes, "buffer");
    const UseMemory here(&session->engine.memory);
    session->timeline.restore(read_blob(session->engine.made->fingerprint(), buffer, bytes));
  });
}

}  // extern "C"
