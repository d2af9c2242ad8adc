#include <stdio.h>
#include <string.h>
#include <supra.h>

// As on a device: the weights are bytes of the program, memory is an array, there are no files, and the caller is
// compiled without exceptions.

asm(".pushsection .rodata\n"
    ".balign 64\n"
    "model_begin: .incbin \"" MODEL "\"\n"
    "model_end:\n"
    ".popsection\n");
extern const char model_begin[], model_end[];

// Pieces of the array, in sizes that are powers of two; those given back wait in lists.
struct Arena {
  struct Piece {
    Piece* next;
  };
  alignas(4096) char room[16 << 20];
  size_t used = 0;
  Piece* spare[32] = {};

  static unsigned size_class(size_t bytes) {
    unsigned n = 6;
    while ((size_t{1} << n) < bytes) n++;
    return n;
  }
  void* take(size_t bytes, size_t alignment) {
    const unsigned n = size_class(bytes > alignment ? bytes : alignment);
    if (Piece* const piece = spare[n]) {
      spare[n] = piece->next;
      return piece;
    }
    const size_t size = size_t{1} << n, multiple = size < 4096 ? size : 4096;
    const size_t aligned = (used + multiple - 1) / multiple * multiple;
    if (aligned > sizeof room || size > sizeof room - aligned) return nullptr;
    used = aligned + size;
    return room + aligned;
  }
};

static Arena arena;

int main() {
  supra_options options = {};
  options.size = sizeof options;
  options.user = &arena;
  options.allocate = [](void* user, size_t bytes, size_t alignment) {
    return static_cast<Arena*>(user)->take(bytes, alignment);
  };
  options.release = [](void* user, void* memory, size_t bytes) {
    Arena::Piece** const spare = &static_cast<Arena*>(user)->spare[Arena::size_class(bytes > 64 ? bytes : 64)];
    static_cast<Arena::Piece*>(memory)->next = *spare;
    *spare = static_cast<Arena::Piece*>(memory);
  };
  supra_error error;
  supra_engine* const engine =
      supra_open_memory(model_begin, static_cast<size_t>(model_end - model_begin), &options, &error);
  supra_session* const session = engine ? supra_start(engine, &error) : nullptr;
  if (!session || supra_feed_text(session, "Once", 4, 0, &error) != SUPRA_OK) {
    puts(error.message);
    return 1;
  }
  supra_sampling likeliest = {};
  likeliest.size = sizeof likeliest;
  uint64_t random = 0;
  for (int i = 0; i < 50; i++) {
    int32_t id = 0;
    char text[64];
    size_t bytes = 0;
    if (supra_sample(session, &likeliest, &random, &id, &error) != SUPRA_OK ||
        supra_text(session, id, text, sizeof text, &bytes, &error) != SUPRA_OK ||
        supra_feed(session, &id, 1, &error) != SUPRA_OK)
      break;
    fwrite(text, 1, bytes, stdout);
  }
  printf("\n%zu kB of memory\n", arena.used / 1024);
  supra_end(session);
  supra_close(engine);
  return error.code;
}
