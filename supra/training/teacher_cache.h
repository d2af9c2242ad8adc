#pragma once
#include <optional>

#include "nn/decoder.h"
#include "supra/training/loader.h"
#include "tensor/file.h"
#include "tensor/parallel.h"

// What a teacher expects behind every token of a run, written once, by the first run that reads the rows, and read by every
// other one: another student, other settings of a recipe, a resumed run. Little-endian:
//   header   CacheHeader (teacher_cache.cpp): what the rows are a function of
//   records  one a row of the loader, at its position: rows that no run has read yet are holes
//     u32    CRC-32 of the rest of the record: one that a killed process left half is as good as absent
//     u32    CRC-32 of what the teacher read
//     T times: f16 log of the probability that is left for the tokens not named,
//              K times an id, u16 where the vocabulary fits, else u32, and the f16 log of its probability, the largest first

namespace supra {

using TeacherLogits = decltype(Distillation::teacher);

class TeacherCache {
 public:
  // Opens the file of the K = `top` largest probabilities, or makes it. Throws Error, naming the flag, where it was written
  // by another teacher, for other text or for another order of it. The rows of a batch may be another number.
  TeacherCache(const Path& path, const Decoder& teacher, const Corpus& corpus, int64_t top, int64_t T, uint64_t seed,
               Packing packing);

  // What the teacher says about a batch; the cache must outlive it. `live` runs the teacher; it is called where a row of
  // the batch is absent, and such rows are written. A row that was just written is used after rounding to the file's format, so a
  // writing run and a reading run get the same bits. Named tokens have the teacher's probabilities; the others share what is left as the
  // student would share it:
  //   KL(p || q) = sum over the named of p log (p/q), + r log (r / (1 - sum q)),  r = 1 - sum p
  // the divergence of K + 1 classes, and its gradient. About the others it teaches nothing but their sum.
  TeacherLogits logits(const Batch& batch, FunctionRef<TeacherLogits()> live);

  // What the file grows by with a row.
  static int64_t row_bytes(int64_t vocabulary, int64_t top, int64_t T);

 private:
  bool read(const Batch& batch, int64_t b, char* record) const;
  void write(const Batch& batch, int64_t b, const TeacherLogits& teacher, char* record);
  // Logits (n,O) of a teacher -> steps of a record; logits are spent.
  void compress(const Tensor& logits, char* steps) const;
  // Steps of one record -> logits (n,O).
  void expand(const char* steps, const Tensor& student, const Tensor& logits) const;
  size_t offset(const Batch& batch, int64_t b) const;

  const Path path_;
  const int64_t O_, K_, T_, id_bytes_, step_bytes_, row_bytes_;
  std::optional<PatchedFile> file_;
};

}  // namespace supra
