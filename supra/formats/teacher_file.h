#pragma once
#include <optional>

#include "tensor/file.h"
#include "tensor/tensor.h"

// What a teacher expects behind every token of a run, in a file. Little-endian:
//   header   magic and TeacherFacts: what the rows are a function of
//   records  one a row of the loader, at its position: rows that no run has read yet are holes
//     u32    CRC-32 of the rest of the record: one that a killed process left half is as good as absent
//     u32    CRC-32 of what the teacher read
//     T times: f16 log of the probability that is left for the tokens not named,
//              K times an id, u16 where the vocabulary fits, else u32, and the f16 log of its probability, the largest first

namespace supra {

struct TeacherFacts {
  uint32_t version = 1;  // of this format
  uint32_t vocabulary, top, sequence, packing;  // O, K of 1 to O, T, and how rows are packed
  uint32_t teacher;                             // a hash of its weights, and of the products unless they are f32
  uint64_t corpus, seed;                        // a hash of the ids, and what orders them
};

class TeacherFile {
 public:
  // Opens the file, or makes it. Throws Error, naming the flag, where it was written with other facts.
  TeacherFile(const Path& path, const TeacherFacts& facts);

  // What the file grows by with a row: the bytes of a record.
  static int64_t row_bytes(int64_t vocabulary, int64_t top, int64_t T);
  int64_t row_bytes() const { return row_bytes_; }
  // Where step t of a record stands.
  char* steps(char* record, int64_t t) const;

  // Whether the row is there, as a whole; then it is in `record`. `text`: a hash of what the teacher reads in it; throws
  // Error where the row was written for another.
  bool read(int64_t row, uint32_t text, char* record) const;
  // Fills in the record's checksums.
  void write(int64_t row, uint32_t text, char* record) const;

  // Logits (n,O) of a teacher -> n steps of a record; logits are spent.
  void compress(const Tensor& logits, char* steps) const;
  // n steps of one record -> logits (n,O): named tokens have the teacher's probabilities, the others share what is left as
  // the student's logits (n,O) would share it.
  void expand(const char* steps, const Tensor& student, const Tensor& logits) const;

 private:
  size_t offset(int64_t row) const;

  const Path path_;
  const int64_t O_, K_, id_bytes_, step_bytes_, row_bytes_;
  std::optional<OpenFile> file_;
};

}  // namespace supra
