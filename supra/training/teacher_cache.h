#pragma once
#include "nn/decoder.h"
#include "supra/formats/teacher_file.h"
#include "supra/training/loader.h"
#include "tensor/parallel.h"

// What a teacher expects behind every token of a run, in a file (formats/teacher_file.h): written once, by the first run that
// reads the rows, and read by every other one: another student, other settings of a recipe, a resumed run.

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

 private:
  // What the teacher says about the T rows of logits from `first` on, into a record.
  void ask(const TeacherLogits& teacher, int64_t first, char* record) const;

  const int64_t O_, T_;
  TeacherFile file_;
};

}  // namespace supra
