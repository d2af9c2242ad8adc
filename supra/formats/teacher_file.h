#pragma once
#include <optional>

#include "supra/formats/file.h"
#include "tensor/tensor.h"

// A teacher's predictions after each token of a run, in a file. Little-endian:
//   header   magic and TeacherFacts, which determine the rows
//   records  one for each row of the loader, at the row's position; rows that no run has read yet are holes
//     u32    CRC-32 of the rest of the record: a record that a killed process left unfinished counts as absent
//     u32    CRC-32 of the text that the teacher read
//     T times: f16 log of the probability of all tokens not listed,
//              K times an id, u16 if the vocabulary fits, else u32, and the f16 log of its probability, the largest first

namespace supra {

struct TeacherFacts {
  uint32_t version = 1;  // of this format
  uint32_t vocabulary, top, sequence, packing;  // O, K of 1 to O, T, and how rows are packed
  uint32_t teacher;                             // hash of its weights, and of the products unless they are f32
  uint64_t corpus, seed;                        // hash of the ids, and the seed of their order
};

class TeacherFile {
 public:
  // Opens or creates the file. Throws Error, naming the flag, if it was written with other facts.
  TeacherFile(const Path& path, const TeacherFacts& facts);

  // The bytes of a record.
  static int64_t row_bytes(int64_t vocabulary, int64_t top, int64_t T);
  int64_t row_bytes() const { return row_bytes_; }
  // The place of step t in a record.
  char* steps(char* record, int64_t t) const;

  // Reads a row into `record`; false if it is absent or incomplete. `text`: a hash of the teacher's input. Throws Error if the
  // row was written for another input.
  bool read(int64_t row, uint32_t text, char* record) const;
  // Fills in the record's checksums.
  void write(int64_t row, uint32_t text, char* record) const;

  // Logits (n,O) of a teacher -> n steps of a record. Destroys the logits.
  void compress(const Tensor& logits, char* steps) const;
  // n steps of a record -> logits (n,O): listed tokens have the teacher's probabilities, the others share the rest in the
  // proportions of the student's logits (n,O).
  void expand(const char* steps, const Tensor& student, const Tensor& logits) const;

 private:
  size_t offset(int64_t row) const;

  const Path path_;
  const int64_t O_, K_, id_bytes_, step_bytes_, row_bytes_;
  std::optional<OpenFile> file_;
};

}  // namespace supra
