#include <stdio.h>
#include <string.h>
#include <supra.h>

/* Goes on from a text, a word at a time. */
int main(int argc, char** argv) {
  supra_error error = {SUPRA_OK, ""};
  if (argc != 3) return fputs("usage: story MODEL TEXT\n", stderr), 2;
  supra_engine* engine = supra_open(argv[1], NULL, &error);
  supra_session* session = engine ? supra_start(engine, &error) : NULL;
  if (session) supra_feed_text(session, argv[2], strlen(argv[2]), &error);

  const supra_sampling sampling = {0.8f, 40, 0.95f, 0};
  uint64_t random = 1;
  for (int i = 0; i < 200 && error.code == SUPRA_OK; i++) {
    int32_t id;
    char text[256];
    size_t bytes = 0;
    if (supra_sample(session, &sampling, &random, &id, &error) != SUPRA_OK || id == supra_eos(engine)) break;
    supra_text(session, id, text, sizeof text, &bytes, &error);
    fwrite(text, 1, bytes, stdout);
    fflush(stdout);
    supra_feed(session, &id, 1, &error);
  }
  puts("");
  if (error.code != SUPRA_OK) fprintf(stderr, "story: %s\n", error.message);
  supra_end(session);
  supra_close(engine);
  return (int)error.code;
}
