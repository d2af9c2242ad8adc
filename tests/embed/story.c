#include <stdio.h>
#include <string.h>
#include <supra.h>

/* Continues a text, a piece at a time. */
int main(int argc, char** argv) {
  supra_error error = {SUPRA_OK, ""};
  if (argc != 3) return fputs("usage: story MODEL TEXT\n", stderr), 2;
  supra_engine* engine = supra_open(argv[1], NULL, &error);
  supra_session* session = engine ? supra_start(engine, &error) : NULL;
  int code = session ? supra_feed_text(session, argv[2], strlen(argv[2]), 0, &error) : (int)error.code;

  const supra_sampling sampling = {.size = sizeof sampling, .temperature = 0.8f, .top_k = 40, .top_p = 0.95f};
  uint64_t random = 1;
  for (int i = 0; i < 200 && code == SUPRA_OK; i++) {
    int32_t id;
    char text[1024]; /* a longer piece is an error: SUPRA_NO_ROOM */
    size_t bytes;
    code = supra_sample(session, &sampling, &random, &id, &error);
    if (code != SUPRA_OK || supra_is_end(engine, id)) break;
    code = supra_text(session, id, text, sizeof text, &bytes, &error);
    if (code != SUPRA_OK) break;
    fwrite(text, 1, bytes, stdout);
    fflush(stdout);
    code = supra_feed(session, &id, 1, &error);
  }
  puts("");
  if (code != SUPRA_OK) fprintf(stderr, "story: %s\n", error.message);
  supra_end(session);
  supra_close(engine);
  return code;
}
