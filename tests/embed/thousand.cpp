#include <supra.h>

#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <memory>
#include <string>
#include <vector>

// A thousand timelines of one model, read in one pass over its weights. Half way all of them go to disk, end, and go
// on from there: `thousand MODEL DIRECTORY` says what `thousand MODEL`, which keeps them, does.

struct Free {
  void operator()(supra_engine* engine) const { supra_close(engine); }
  void operator()(supra_session* session) const { supra_end(session); }
};
using Engine = std::unique_ptr<supra_engine, Free>;
using Session = std::unique_ptr<supra_session, Free>;

static supra_error error;

static void check(bool fine) {
  if (fine) return;
  std::fprintf(stderr, "thousand: %s\n", error.message);
  std::exit(1);
}

static std::string file_of(const std::string& directory, size_t number) {
  return directory + "/" + std::to_string(number) + ".state";
}

static void swap_out(const Engine& engine, Session& session, const std::string& path) {
  std::vector<char> state(supra_state_bytes(engine.get()));
  check(supra_save(session.get(), state.data(), state.size(), nullptr, &error) == SUPRA_OK);
  std::ofstream file(path, std::ios::binary);
  file.write(state.data(), static_cast<std::streamsize>(state.size()));
  file.close();
  if (!file) {
    std::perror(path.c_str());
    std::exit(1);
  }
  session.reset();
}

static Session swap_in(const Engine& engine, const std::string& path) {
  std::vector<char> state(supra_state_bytes(engine.get()));
  std::ifstream(path, std::ios::binary).read(state.data(), static_cast<std::streamsize>(state.size()));
  Session session(supra_start(engine.get(), &error));
  check(session && supra_load(session.get(), state.data(), state.size(), &error) == SUPRA_OK);
  return session;
}

// Reads one id in each and chooses the next.
static void step(const std::vector<Session>& sessions, std::vector<int32_t>& ids) {
  std::vector<supra_session*> list;
  for (const Session& session : sessions) list.push_back(session.get());
  check(supra_step(list.data(), ids.data(), list.size(), &error) == SUPRA_OK);
  supra_sampling likeliest = {};
  likeliest.size = sizeof likeliest;
  uint64_t random = 0;
  for (size_t i = 0; i < list.size(); i++)
    check(supra_sample(list[i], &likeliest, &random, &ids[i], &error) == SUPRA_OK);
}

int main(int argc, char** argv) {
  const Engine engine(supra_open(argv[1], nullptr, &error));
  check(engine != nullptr);
  std::vector<Session> sessions(1000);
  std::vector<int32_t> ids;
  for (Session& session : sessions) {
    session.reset(supra_start(engine.get(), &error));
    check(session != nullptr);
    ids.push_back(static_cast<int32_t>(ids.size()) % supra_vocabulary(engine.get()));
  }
  for (int i = 0; i < 4; i++) step(sessions, ids);
  if (argc > 2) {
    for (size_t i = 0; i < sessions.size(); i++) swap_out(engine, sessions[i], file_of(argv[2], i));
    for (size_t i = 0; i < sessions.size(); i++) sessions[i] = swap_in(engine, file_of(argv[2], i));
  }
  for (int i = 0; i < 4; i++) step(sessions, ids);
  for (const int32_t id : ids) std::printf("%d\n", id);
}
