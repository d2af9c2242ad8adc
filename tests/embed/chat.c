#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <supra.h>

/* chat MODEL STATE [SYSTEM]: a conversation, one line of stdin a turn. The line /undo takes the last turn back. At the
 * end the conversation is saved in the file STATE, and the next run continues it from there. The model reads each
 * message once: what it has read is its state, which does not grow. */

static supra_error error;

static void check(int fine) {
  if (fine) return;
  fprintf(stderr, "chat: %s\n", error.message);
  exit(1);
}

static void* memory_of(size_t bytes) {
  void* memory = malloc(bytes ? bytes : 1);
  if (memory) return memory;
  fputs("chat: out of memory\n", stderr);
  exit(1);
}

/* Reads messages as the model's chat template writes them. The first call asks how long the text is. */
static void read_messages(const supra_engine* engine, supra_session* session, const supra_message* messages,
                          size_t count, uint32_t flags) {
  size_t bytes = 0;
  int code = supra_render_chat(engine, messages, count, flags, NULL, 0, &bytes, &error);
  check(code == SUPRA_OK || code == SUPRA_NO_ROOM);
  char* text = memory_of(bytes);
  check(supra_render_chat(engine, messages, count, flags, text, bytes, NULL, &error) == SUPRA_OK);
  check(supra_feed_text(session, text, bytes, flags | SUPRA_SPECIAL, &error) == SUPRA_OK);
  free(text);
}

/* Shows what an id adds to the text; -1 shows what is left at the end. */
static void show(supra_session* session, int32_t id) {
  char room[256], *text = room;
  size_t bytes;
  int code = supra_text(session, id, room, sizeof room, &bytes, &error);
  if (code == SUPRA_NO_ROOM) {
    text = memory_of(bytes);
    code = supra_text(session, id, text, bytes, &bytes, &error);
  }
  check(code == SUPRA_OK);
  fwrite(text, 1, bytes, stdout);
  fflush(stdout);
  if (text != room) free(text);
}

/* Writes the assistant's answer. */
static void answer(const supra_engine* engine, supra_session* session) {
  enum { LONGEST = 400, RECENT = 64 };
  int32_t recent[RECENT];
  uint64_t random = (uint64_t)supra_position(session);
  supra_sampling sampling = {
      .size = sizeof sampling, .temperature = 0.7f, .top_p = 0.95f, .repeat_penalty = 1.1f, .recent = recent};
  for (size_t i = 0; i < LONGEST; i++) {
    int32_t id;
    check(supra_sample(session, &sampling, &random, &id, &error) == SUPRA_OK);
    if (supra_is_end(engine, id)) break;
    show(session, id);
    check(supra_feed(session, &id, 1, &error) == SUPRA_OK);
    recent[i % RECENT] = id;
    if (sampling.recent_count < RECENT) sampling.recent_count++;
  }
  show(session, -1);
  puts("");
}

static void load(const supra_engine* engine, supra_session* session, const char* path) {
  FILE* file = fopen(path, "rb");
  if (!file) return; /* the first time */
  size_t bytes = supra_state_bytes(engine);
  void* state = memory_of(bytes);
  bytes = fread(state, 1, bytes, file);
  fclose(file);
  check(supra_load(session, state, bytes, &error) == SUPRA_OK);
  free(state);
}

/* Into a file of another name first: a full disk does not cost the old state. Returns whether the state is saved. */
static int save(const supra_engine* engine, const supra_session* session, const char* path) {
  char written[4096];
  snprintf(written, sizeof written, "%s.new", path);
  size_t bytes = supra_state_bytes(engine);
  void* state = memory_of(bytes);
  check(supra_save(session, state, bytes, NULL, &error) == SUPRA_OK);
  FILE* file = fopen(written, "wb");
  int fine = file && fwrite(state, 1, bytes, file) == bytes;
  if (file && fclose(file) != 0) fine = 0;
  if (fine) fine = rename(written, path) == 0;
  if (!fine) perror(path);
  free(state);
  return fine;
}

int main(int argc, char** argv) {
  if (argc != 3 && argc != 4) return fputs("usage: chat MODEL STATE [SYSTEM]\n", stderr), 2;
  supra_engine* engine = supra_open(argv[1], NULL, &error);
  check(engine != NULL);
  supra_session* session = supra_start(engine, &error);
  check(session != NULL);
  load(engine, session, argv[2]);
  supra_session* before = supra_clone(session, &error); /* the last turn */
  check(before != NULL);

  char line[4096];
  while (fgets(line, sizeof line, stdin)) {
    line[strcspn(line, "\n")] = '\0';
    if (strcmp(line, "/undo") == 0) {
      check(supra_copy(session, before, &error) == SUPRA_OK);
      continue;
    }
    check(supra_copy(before, session, &error) == SUPRA_OK);
    const supra_message user = {"user", line, strlen(line)};
    if (supra_position(session) > 0) {
      read_messages(engine, session, &user, 1, SUPRA_CONTINUE);
    } else if (argc == 4) {
      const supra_message both[] = {{"system", argv[3], strlen(argv[3])}, user};
      read_messages(engine, session, both, 2, 0);
    } else {
      read_messages(engine, session, &user, 1, 0);
    }
    answer(engine, session);
  }
  int saved = save(engine, session, argv[2]);
  supra_end(before);
  supra_end(session);
  supra_close(engine);
  return saved ? 0 : 1;
}
