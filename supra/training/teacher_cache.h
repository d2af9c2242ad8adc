#pragma once
#include "nn/decoder.h"
#include "supra/formats/teacher_file.h"
#include "supra/training/loader.h"
#include "tensor/parallel.h"

// A teacher's predictions for every token of a run, in a file (formats/teacher_file.h): the first run writes it, others read.

namespace supra {

using TeacherLogits = decltype(Distillation::teacher);

class TeacherCache {
 public:
  // Opens or creates the file with the K = `top` largest probabilities. Throws Error naming the flag if it was written by
  // another teacher, for other text or for another order of it. The number of rows in a batch may differ.
  TeacherCache(const Path& path, const Decoder& teacher, const Corpus& corpus, int64_t top, int64_t T, uint64_t seed,
               Packing packing);

  // The teacher's logits for a batch; the cache must outlive the result. If a row is missing, `live` runs the teacher and the
  // row is written. It is used as rounded in the file, so writing and reading runs get the same bits. Stored tokens have
  // the teacher's probabilities; the rest is divided among the other tokens as the student divides it:
  //   KL(p || q) = sum over stored tokens of p log (p/q), + r log (r / (1 - sum q)),  r = 1 - sum p
  // which is the divergence over K + 1 classes. Of the other tokens, the student learns only the sum.
  TeacherLogits logits(const Batch& batch, FunctionRef<TeacherLogits()> live);

 private:
  const int64_t O_, T_;
  TeacherFile file_;
};

}  // namespace supra
