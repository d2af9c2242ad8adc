/* supra: recurrent language models in a C program. This header describes everything that a caller needs to know.
 *
 * An engine is a model. Its weights never change; they are memory-mapped from a file, or used in place in the caller's
 * memory. A session is one text that the model reads and continues. Its memory of the text is a state of fixed size,
 * however long the text is. States can be copied, saved and loaded.
 *
 * Threads: any number of threads may use one engine at once, until supra_close. A session may be used by one thread
 * at a time. Sessions do not affect each other. Nothing needs to be initialised.
 *
 * Failures: a function that can fail returns a supra_code, a null pointer or an id below 0, and writes the reason to
 * the caller's supra_error. A failed call changes nothing. The library throws no exceptions, prints nothing and has
 * no global state.
 *
 * Pointers: `error` and `written` may be NULL, and so may a text, a list or a buffer of length 0. Other pointers may be
 * NULL only if the function says so. Otherwise the code is SUPRA_BAD_ARGUMENT, and functions without a supra_error return
 * 0, -1, "" or NULL. `*written` is set to the number of ids or bytes that were written.
 *
 * Structs that begin with `size` may get more fields in later versions. Set the struct to zero, then `size` to its
 * sizeof: zero is the default of each field. A program then works with older and newer libraries. The library
 * refuses a struct only if `size` is too small for its first version, or if the program sets a field that the library
 * does not know.
 *
 * Memory: all memory comes from supra_options, with three exceptions: what the C library takes to open a file or
 * list a folder, what the C++ runtime takes to report an error (libsupra.a keeps 15 kB of it after the first error),
 * and 72 kB that it sets aside for that when the program starts. The library starts threads only if supra_options
 * asks for them.
 *
 * Files: do not change a model's file while it is open, or reading it may end in SIGBUS. Write a new file and rename
 * it instead.
 *
 * Texts are UTF-8. Their length is given in bytes; they need no zero at the end.
 *
 * Results: the same calls on the same processor give the same bits, whatever the number of threads. Results differ
 * by rounding (1e-6 to 1e-4 of the largest logit) between feeding ids one at a time and many at once, between batch
 * sizes, and between processors (the environment variable SUPRA_CPU selects the kernels: baseline, avx2, avx512).
 */
#ifndef SUPRA_H
#define SUPRA_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define SUPRA_API __attribute__((visibility("default")))
#else
#define SUPRA_API
#endif

/* Increases with every change of this header. Later versions only add functions, codes, flags, and fields at the end
 * of structs that begin with `size`. */
#define SUPRA_API_VERSION 2

typedef enum supra_code {
  SUPRA_OK = 0,
  SUPRA_BAD_ARGUMENT = 1, /* an argument is invalid: a null pointer, an id outside of the vocabulary */
  SUPRA_BAD_MODEL = 2,    /* the model cannot be read, is damaged, or is of a kind that this library does not run */
  SUPRA_BAD_STATE = 3,    /* the state belongs to another model, dtype or version, is cut short, or is damaged */
  SUPRA_NO_MEMORY = 4,    /* the allocator returned NULL */
  SUPRA_NO_ROOM = 5,      /* the caller's buffer is too small: nothing was written, *written is the size needed */
  SUPRA_CANCELLED = 6,    /* the caller's progress function ended the call */
  SUPRA_BROKEN = 7,       /* a bug of this library: please report it with the message */
  SUPRA_NO_TEMPLATE = 8   /* the model has no chat template, or one that this library does not know */
} supra_code;

typedef struct supra_error { /* the library writes it; it need not be initialised */
  supra_code code;
  char message[256]; /* what went wrong, where, and what to do; ends with a zero */
} supra_error;

typedef struct supra_engine supra_engine;
typedef struct supra_session supra_session;

typedef struct supra_options {
  uint32_t size;   /* sizeof(supra_options) */
  int32_t threads; /* threads that compute, the calling one included; 0 and 1: only the calling one */
  /* Where memory comes from. allocate() returns `bytes` at a multiple of `alignment`, a power of two, or NULL. Set
   * both functions or neither (then malloc and free). release() gets the `bytes` that allocate() was asked for. The
   * threads that use the engine call them, several at once if several do. */
  void* (*allocate)(void* user, size_t bytes, size_t alignment);
  void (*release)(void* user, void* memory, size_t bytes);
  /* Called during supra_feed and supra_feed_text, in the thread that called them, with the part that is done (0 to
   * 1). Any result but 0 cancels the call. It must not throw, and must not use the session. */
  int (*progress)(void* user, double done);
  void* user;     /* the first argument of all three functions */
  uint64_t flags; /* SUPRA_CHECK_WEIGHTS or 0 */
} supra_options;

enum {
  /* Opening reads all weights and compares them with the checksums of the packed model: SUPRA_BAD_MODEL if one differs,
   * or if the model has none (it is a folder, or was packed before checksums were written). Without this flag weights
   * are taken as they are, and read when they are first used. */
  SUPRA_CHECK_WEIGHTS = 1
};

/* ---- engine */

/* The SUPRA_API_VERSION that the library was built with. */
SUPRA_API uint32_t supra_api_version(void);
/* Opens a model whose layers are all recurrent: a packed file (supra convert MODEL -o model.supra --to packed), or a
 * folder that supra linearize or supra uptrain wrote. `options` may be NULL. It is copied; its functions and `user` are
 * used until supra_close. Returns NULL on failure. */
SUPRA_API supra_engine* supra_open(const char* path, const supra_options* options, supra_error* error);
/* Opens a packed model in memory. It must begin at a multiple of 64 and stay unchanged until supra_close: the weights
 * are used in place. */
SUPRA_API supra_engine* supra_open_memory(const void* model, size_t bytes, const supra_options* options,
                                          supra_error* error);
/* Closes an engine. End all of its sessions first. NULL is allowed. */
SUPRA_API void supra_close(supra_engine* engine);

/* The number of ids: an id is 0 to this number minus 1. */
SUPRA_API int32_t supra_vocabulary(const supra_engine* engine);
/* The ids that begin and end a text (BOS, EOS); -1 if the model has none. */
SUPRA_API int32_t supra_bos(const supra_engine* engine);
SUPRA_API int32_t supra_eos(const supra_engine* engine);
/* Whether a text or an answer ends where the model chooses this id: 1 or 0. Models may have several such ids: EOS, the
 * mark that ends an answer in the chat template, others that the model's files name, and BOS, which begins the next
 * text. */
SUPRA_API int supra_is_end(const supra_engine* engine, int32_t id);
/* The special token of exactly this text, such as <|im_end|>. Returns -1 if there is none. */
SUPRA_API int32_t supra_special(const supra_engine* engine, const char* text, size_t bytes, supra_error* error);
/* The bytes of a saved state: the same for all sessions of an engine, at every position. */
SUPRA_API size_t supra_state_bytes(const supra_engine* engine);
/* For comparison: the bytes by which the key-value cache of a softmax transformer of this model's shape grows with each
 * id, in numbers as wide as those of the state. */
SUPRA_API size_t supra_cache_bytes(const supra_engine* engine);

/* How a text is turned into ids: the sum of these, or 0. */
enum {
  SUPRA_SPECIAL = 1,  /* the texts of special tokens become their ids; otherwise they are ordinary text */
  SUPRA_CONTINUE = 2, /* the text continues an earlier one: the tokenizer puts no space in front of it */
  SUPRA_BOS = 4       /* BOS comes first, if texts of this model begin with BOS */
};
/* Turns a text into ids. `room` is the number of ids that fit. */
SUPRA_API int supra_encode(const supra_engine* engine, const char* text, size_t bytes, uint32_t flags, int32_t* ids,
                           size_t room, size_t* written, supra_error* error);

/* ---- chat */

typedef struct supra_message { /* this struct never changes */
  const char* role; /* "system", "user" or "assistant", with a zero at the end */
  const char* text;
  size_t bytes; /* of text */
} supra_message;

/* The chat template in the model's files, a Jinja program that ends with a zero; "" if there is none. The pointer is
 * valid until supra_close. A program that runs the template itself must leave out the BOS at the beginning, because
 * supra_feed_text adds it. */
SUPRA_API const char* supra_chat_template(const supra_engine* engine);
/* Writes a conversation as text, in the form that the chat template describes, up to where the assistant's next answer
 * begins. Read the text with supra_feed_text and SUPRA_SPECIAL. The library does not run the template: it recognises
 * ChatML, Llama 2, Llama 3 and Mistral by their special tokens. For others the code is SUPRA_NO_TEMPLATE. If the first
 * message is not a system message, the default system message of a ChatML template is written first; those of other
 * templates are not. Every system message for Llama 3.1 begins with its dates.
 *
 * Messages are text: if one contains the text of a special token, such as <|im_end|>, a space is written before its
 * last character, so that no user can end a message or speak for the system. With the flag SUPRA_SPECIAL messages are
 * written unchanged, and such texts become special tokens when they are read. Users can always imitate the parts of a
 * template that are ordinary text, such as [INST] of Llama 2.
 *
 * With the flag SUPRA_CONTINUE `messages` is one message of the user, which follows an answer that the session itself
 * wrote. The text then has only the new part: the end of that answer, the message, and the beginning of the next answer.
 * Read it with SUPRA_SPECIAL | SUPRA_CONTINUE. In this way a session reads each message once. The session must not have
 * read the id that ended its answer (supra_is_end), because the text begins with it. */
SUPRA_API int supra_render_chat(const supra_engine* engine, const supra_message* messages, size_t count,
                                uint32_t flags, char* text, size_t room, size_t* written, supra_error* error);

/* ---- session */

/* Starts a session that has read nothing. Returns NULL on failure. */
SUPRA_API supra_session* supra_start(const supra_engine* engine, supra_error* error);
/* Ends a session. NULL is allowed. */
SUPRA_API void supra_end(supra_session* session);
/* Makes the session forget everything. */
SUPRA_API int supra_reset(supra_session* session, supra_error* error);
/* Reads ids. Nothing happens if there are none. */
SUPRA_API int supra_feed(supra_session* session, const int32_t* ids, size_t count, supra_error* error);
/* Reads a text. A session that has read nothing yet adds SUPRA_BOS to the flags, unless SUPRA_CONTINUE is one: an empty
 * text is then BOS alone, if texts of this model begin with BOS. A text that is read in several parts needs
 * SUPRA_CONTINUE from the second part on. */
SUPRA_API int supra_feed_text(supra_session* session, const char* text, size_t bytes, uint32_t flags,
                              supra_error* error);
/* Reads one id in each of `count` sessions, in one pass over the weights: ids[i] in sessions[i]. The sessions must be
 * different ones of the same engine. */
SUPRA_API int supra_step(supra_session* const* sessions, const int32_t* ids, size_t count,
                         supra_error* error);
/* The logits of the next id: supra_vocabulary() floats, or NULL before the first id. The pointer is valid until the
 * session reads an id, is reset, ended or loaded, or is the target of supra_copy. */
SUPRA_API const float* supra_logits(const supra_session* session);
/* The number of ids read so far. */
SUPRA_API int64_t supra_position(const supra_session* session);

typedef struct supra_sampling {
  uint32_t size;         /* sizeof(supra_sampling) */
  float temperature;     /* 0: always the most likely id */
  int32_t top_k;         /* keep only the k most likely ids; 0: all */
  float top_p;           /* keep the fewest most likely ids whose probabilities add up to this; 0 and 1: all */
  float min_p;           /* keep the ids that are at least this fraction as likely as the most likely one; 0: all */
  float repeat_penalty;  /* the logits of recent ids are divided (positive) or multiplied (negative) by it; 0 and 1: off */
  const int32_t* recent; /* the recent ids, in any order; needed only for repeat_penalty */
  size_t recent_count;
} supra_sampling;

/* Chooses the next id from the logits. The session does not read it: call supra_text, then supra_feed. `random` is
 * the state of the random numbers: start with any number, each call changes it. */
SUPRA_API int supra_sample(const supra_session* session, const supra_sampling* sampling, uint64_t* random,
                           int32_t* id, supra_error* error);
/* The text that an id adds to the text of this session. Call it before the session reads the id. Only whole
 * characters are written: the bytes of an unfinished one are kept for the next call. id -1 ends the text: an
 * unfinished character becomes U+FFFD. One id may be hundreds of bytes long: after SUPRA_NO_ROOM call it again with
 * *written bytes of room. */
SUPRA_API int supra_text(supra_session* session, int32_t id, char* text, size_t room, size_t* written,
                         supra_error* error);

/* ---- states */

/* Starts another session that continues from the same point. Returns NULL on failure. */
SUPRA_API supra_session* supra_clone(const supra_session* session, supra_error* error);
/* Makes `to` continue from the same point as `from`, a session of the same engine. To rewind a session, copy a clone
 * that was made earlier. */
SUPRA_API int supra_copy(supra_session* to, const supra_session* from, supra_error* error);
/* Writes the whole session, including logits and unfinished characters, into supra_state_bytes() bytes. Any machine
 * of the same byte order can load them into the same model. They contain a version, a fingerprint of the model and a
 * checksum. A loaded session gives the same bits that the saved one would have given on that machine. */
SUPRA_API int supra_save(const supra_session* session, void* buffer, size_t room, size_t* written,
                         supra_error* error);
SUPRA_API int supra_load(supra_session* session, const void* buffer, size_t bytes, supra_error* error);

#ifdef __cplusplus
}
#endif
#endif
