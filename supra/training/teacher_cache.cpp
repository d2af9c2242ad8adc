#include "supra/training/teacher_cache.h"

#include <algorithm>

#include "kernels/products.h"
#include "supra/formats/parse/crc32.h"
#include "tensor/parallel.h"

namespace supra {

// A hash of 4 KiB from the middle of each weight, so that most of a large file stays unread, and of the products' precision.
static uint32_t hash_of(const Decoder& teacher) {
  uint32_t hash = products() == Products::f32 ? 0 : crc32(0, name(products()));
  const_cast<Decoder&>(teacher).visit([&](const std::string&, Var& parameter) {
    const size_t bytes = parameter.value().bytes(), part = std::min<size_t>(bytes, 4096);
    const Device device = parameter.value().device();
    std::string middle(part, 0);
    copy_bytes(middle.data(), Device::cpu, static_cast<const char*>(parameter.value().raw(device)) + (bytes - part) / 2, device, part);
    hash = crc32(hash, middle);
  });
  return hash;
}

static TeacherFacts facts_of(const Path& path, const Decoder& teacher, const Corpus& corpus, int64_t top, int64_t T, uint64_t seed,
                             Packing packing) {
  const int64_t O = teacher.config().vocab;
  CHECK(top >= 1 && top <= O, "%s: the %ld largest probabilities of %ld tokens cannot be kept (give --teacher-top 1 to %ld)",
        path.c_str(), static_cast<long>(top), static_cast<long>(O), static_cast<long>(O));
  CHECK(packing != Packing::carried, "%s: rows that continue from batch to batch cannot be cached (remove --teacher-cache)",
        path.c_str());
  return {.vocabulary = static_cast<uint32_t>(O),
          .top = static_cast<uint32_t>(top),
          .sequence = static_cast<uint32_t>(T),
          .packing = static_cast<uint32_t>(packing),
          .teacher = hash_of(teacher),
          .corpus = corpus.hash(),
          .seed = seed};
}

TeacherCache::TeacherCache(const Path& path, const Decoder& teacher, const Corpus& corpus, int64_t top, int64_t T,
                           uint64_t seed, Packing packing)
    : O_(teacher.config().vocab), T_(T), file_(path, facts_of(path, teacher, corpus, top, T, seed, packing)) {}

// A hash of the teacher's input in a row.
static uint32_t hash_of_row(const Batch& batch, int64_t b) {
  const Tensor tokens = batch.tokens.rows(b, b + 1);
  uint32_t hash = crc32(0, {static_cast<const char*>(tokens.raw()), tokens.bytes()});
  const auto add = [&](int64_t number) { hash = crc32(hash, {reinterpret_cast<const char*>(&number), sizeof number}); };
  if (!batch.lengths.empty()) add(batch.lengths[b]);
  if (batch.cuts.empty()) return hash;
  for (const int64_t cut : batch.cuts[b]) add(cut);
  return hash;
}

TeacherLogits TeacherCache::logits(const Batch& batch, FunctionRef<TeacherLogits()> live) {
  const int64_t B = batch.tokens.dim(0);
  check_shape("teacher cache", "a batch", batch.tokens.shape(), {B, T_});
  const auto records = std::make_shared<std::vector<char>>(static_cast<size_t>(B * file_.row_bytes()));
  const auto record = [this, records](int64_t b) { return records->data() + b * file_.row_bytes(); };
  std::vector<char> there(static_cast<size_t>(B));
  parallel_for(B, 1, [&](int64_t begin, int64_t end) {
    for (int64_t b = begin; b < end; b++) there[b] = file_.read(batch.first_row + b, hash_of_row(batch, b), record(b));
  });
  TeacherLogits teacher;
  for (int64_t b = 0; b < B; b++) {
    if (there[b]) continue;
    if (!teacher) teacher = live();
    const Tensor block = Tensor::empty({std::min(T_, std::max<int64_t>(32, kLogitsAtOnce / O_)), O_});
    for (int64_t t = 0; t < T_; t += block.dim(0)) {
      const Tensor logits = block.rows(0, std::min(block.dim(0), T_ - t));
      teacher(b * T_ + t, {}, logits);
      file_.compress(logits, file_.steps(record(b), t));
    }
    file_.write(batch.first_row + b, hash_of_row(batch, b), record(b));
  }
  return [this, record](int64_t first, const Tensor& all_students, const Tensor& into) {
    // the file is expanded on the CPU, for a GPU too
    const Tensor student = all_students.to(Device::cpu), logits = into.device() == Device::cpu ? into : Tensor::empty(into.shape());
    for (int64_t done = 0, n = logits.dim(0); done < n;) {
      const int64_t b = (first + done) / T_, t = (first + done) % T_, end = std::min(n, done + T_ - t);
      file_.expand(file_.steps(record(b), t), student.rows(done, end), logits.rows(done, end));
      done = end;
    }
    if (into.device() != Device::cpu) into.copy_from(logits);
  };
}

}  // namespace supra
