/* supra: a recurrent language model in a program that has nothing else. This page is the whole contract.
 *
 * An engine is a model: weights that never change, mapped from a file or read where the caller has them. A
 * session is one timeline of it: what was read is a state of fixed size, however long the text, which can be
 * copied, kept and put back.
 *
 * Threads: any number of threads may use one engine at once, until supra_close. A session is used by one
 * thread at a time; sessions know nothing of each other. There is nothing to set up.
 *
 * Failures: a function that can fail returns a supra_code (or a null pointer) and says why in the caller's
 * supra_error, which may be null. After a failure everything is as it was before the call. Nothing is thrown,
 * printed or kept in globals. `written` may be null too.
 *
 * Memory and threads are the caller's: all memory comes from supra_options, but for what the C library takes
 * to open a file or list a folder, what an error takes while it is reported, and 72 kB that the C++ library
 * sets aside for that when the program starts. No thread is started unless supra_options asks for it. A
 * model's file must not change while it is open: reading it would be a SIGBUS. Write a new file beside it and
 * rename. Weights are taken as they are: no checksum is kept of them. Texts are UTF-8 without a zero at the end.
 *
 * Bits: the same calls on the same processor give the same bits, whatever the number of threads. One id read by
 * supra_feed or supra_step, or several at once, in a small or a large batch, and processors with other vector
 * units (SUPRA_CPU in the environment picks) differ by rounding, some 1e-6 to 1e-4 of the largest logit.
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

/* Grows with every change of this page, which only ever adds. A program says in supra_options which it knows. */
#define SUPRA_API_VERSION 1

typedef enum supra_code {
  SUPRA_OK = 0,
  SUPRA_BAD_ARGUMENT = 1, /* the call cannot be meant: a null pointer, an id outside the vocabulary */
  SUPRA_BAD_MODEL = 2,    /* cannot be read, is damaged, or is none that runs here */
  SUPRA_BAD_STATE = 3,    /* of another model, dtype or version, cut, or damaged */
  SUPRA_NO_MEMORY = 4,    /* the allocator gave none */
  SUPRA_NO_ROOM = 5,      /* in the caller's buffer: *written is what is needed, nothing was written */
  SUPRA_CANCELLED = 6,    /* by the caller's progress function */
  SUPRA_BROKEN = 7        /* a fault of this library: please report it with the message */
} supra_code;

typedef struct supra_error {
  supra_code code;
  char message[256]; /* where, what was given, what was expected; ends with a zero */
} supra_error;

typedef struct supra_engine supra_engine;
typedef struct supra_session supra_session;

typedef struct supra_options {
  uint32_t api_version; /* SUPRA_API_VERSION */
  int32_t threads;      /* that compute, the caller's included; 0 and 1: only the caller's */
  /* Memory aligned to `alignment`, a power of two, or null; both functions or none: malloc and free. They are
   * called by the threads that use the engine or its sessions, by several at once if those do. */
  void* (*allocate)(void* user, size_t bytes, size_t alignment);
  void (*release)(void* user, void* memory, size_t bytes);
  /* Called now and then by supra_feed and supra_feed_text with the part that is done, 0 to 1, in the thread that
   * called them, so by several at once if those do; not 0 cancels that call. It throws nothing. */
  int (*progress)(void* user, double done);
  void* user; /* handed to all three */
} supra_options;

/* ---- engine */

/* The version of this page that the library was built with. */
SUPRA_API uint32_t supra_api_version(void);
/* A model whose layers are all recurrent, as supra linearize and supra uptrain leave it (a folder with config.json and
 * safetensors), or packed. Weights stay in the file, mapped. `options` may be null, and is not needed afterwards.
 * Null on failure. */
SUPRA_API supra_engine* supra_open(const char* path, const supra_options* options, supra_error* error);
/* A packed model (supra convert MODEL -o model.supra --to packed) that lies at a multiple of 64 and stays as
 * it is until supra_close: weights are used in place. */
SUPRA_API supra_engine* supra_open_memory(const void* model, size_t bytes, const supra_options* options,
                                          supra_error* error);
/* When all of its sessions have ended. Null is nothing. */
SUPRA_API void supra_close(supra_engine* engine);

SUPRA_API int32_t supra_vocabulary(const supra_engine* engine); /* ids are 0 ... this - 1 */
/* The ids that begin and end a text; -1 where the model has none. */
SUPRA_API int32_t supra_bos(const supra_engine* engine);
SUPRA_API int32_t supra_eos(const supra_engine* engine);
/* Bytes of a saved state: the same for every session at every position. */
SUPRA_API size_t supra_state_bytes(const supra_engine* engine);
/* A text as ids, without BOS. */
SUPRA_API int supra_encode(const supra_engine* engine, const char* text, size_t bytes, int32_t* ids,
                           size_t room, size_t* written, supra_error* error);

/* ---- session */

/* One that has read nothing. Null on failure. */
SUPRA_API supra_session* supra_start(const supra_engine* engine, supra_error* error);
/* Null is nothing. */
SUPRA_API void supra_end(supra_session* session);
/* Forgets everything. */
SUPRA_API int supra_reset(supra_session* session, supra_error* error);
/* Reads ids, or a text; in front of a text stands BOS where the session has read nothing yet, if the model's texts
 * begin so. A text is encoded by itself: a tokenizer that puts a space in front of texts does so each time, and what
 * stands for special ids is read as text. */
SUPRA_API int supra_feed(supra_session* session, const int32_t* ids, size_t count, supra_error* error);
SUPRA_API int supra_feed_text(supra_session* session, const char* text, size_t bytes, supra_error* error);
/* One id for each of several sessions of one engine, no session twice, in one pass over the weights. */
SUPRA_API int supra_step(supra_session* const* sessions, const int32_t* ids, size_t count,
                         supra_error* error);
/* The logits of the next id, supra_vocabulary() floats, until the session reads, is reset, loaded, copied to or
 * ended; null before the first id. */
SUPRA_API const float* supra_logits(const supra_session* session);
SUPRA_API int64_t supra_position(const supra_session* session); /* ids read so far */

typedef struct supra_sampling {
  float temperature; /* 0: the likeliest id */
  int32_t top_k;     /* only the k likeliest; 0: all */
  float top_p;       /* only the likeliest that reach this probability together; 0 and 1: all */
  float min_p;       /* only those at least this fraction as likely as the likeliest; 0: all */
} supra_sampling;

/* Chooses an id from the logits and reads nothing. `random` is the generator: any number at first, moved on
 * by each call. */
SUPRA_API int supra_sample(const supra_session* session, const supra_sampling* sampling, uint64_t* random,
                           int32_t* id, supra_error* error);
/* The text that an id adds to what this session has read and said; call it before the id is read. Whole
 * characters only: bytes of an unfinished one are kept for the next call. -1 is the end: an unfinished
 * character becomes U+FFFD. */
SUPRA_API int supra_text(supra_session* session, int32_t id, char* text, size_t room, size_t* written,
                         supra_error* error);

/* ---- states */

/* Another session that goes on from where this one is. Null on failure. */
SUPRA_API supra_session* supra_clone(const supra_session* session, supra_error* error);
/* `to` goes on from where `from`, of the same engine, is: so a session is rewound to a clone that was kept. */
SUPRA_API int supra_copy(supra_session* to, const supra_session* from, supra_error* error);
/* All that a session is, logits and unfinished characters too, in supra_state_bytes() bytes that every
 * machine of this byte order reads, with a version, the model's fingerprint and a checksum: it goes on with
 * the bits that this machine would have gone on with on that one. */
SUPRA_API int supra_save(const supra_session* session, void* buffer, size_t room, size_t* written,
                         supra_error* error);
SUPRA_API int supra_load(supra_session* session, const void* buffer, size_t bytes, supra_error* error);

#ifdef __cplusplus
}
#endif
#endif
